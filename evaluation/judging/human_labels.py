"""Human labels of pairs of answers, matched with judged pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from evaluation.judging.pairwise import AnswerPair
from feedback.labels import Label, by_pair, latest_by_voter
from feedback.readers import read_labels
from training.errors import DataError


def human_wins(path: Path, pairs: Sequence[AnswerPair]) -> list[float]:
    """Return the win of the model by human labels: 1, 0.5 or 0; NaN of a pair without a label.

    The mean over people of a pair counts, so that two who disagree are a tie.

    Args:
        path: File of labels, of every shape that `temper feedback` reads.
        pairs: The judged pairs.

    Raises:
        DataError: The file cannot be read, or labels none of the pairs.
    """
    labelled = by_pair(read_labels([path]).labels)
    wins = [_win(pair, labelled.get(_key(pair), ())) for pair in pairs]
    if all(math.isnan(win) for win in wins):
        raise DataError(
            f"{path}: none of its {len(labelled):,} pairs is one of the {len(pairs):,} judged "
            f"pairs. Prompt and both answers must be those of the evaluation, such as in the "
            f"pairs.jsonl that temper compare writes"
        )
    return wins


def _key(pair: AnswerPair) -> str:
    return Label("", pair.prompt, pair.model, pair.other, None).pair


def _win(pair: AnswerPair, labels: Sequence[Label]) -> float:
    votes = latest_by_voter(labels).values()
    if not votes:
        return math.nan
    # A label's vote is 1 for the first answer in an order that does not depend on the display.
    own = Label("", pair.prompt, pair.model, pair.other, 0).vote
    return sum(0.5 + 0.5 * own * label.vote for label in votes) / len(votes)
