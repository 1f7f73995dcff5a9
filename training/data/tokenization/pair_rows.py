"""Token rows of pairs: both answers of a preference, and each pair of a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from training.data.schema.rows import RankingRow
from training.data.tokenization.token_rows import Dropped, Outcome, TokenRow, dump_about


def ranking_rows(row: RankingRow, answers: Sequence[Outcome]) -> Outcome:
    """Return one row for each pair of a ranking, or the reason why a pair cannot be learned.

    A ranking is kept or dropped as a whole: its weights are shares of all its pairs.
    """
    rows: list[TokenRow] = []
    for number, pair in enumerate(row.pairs, start=1):
        about = dump_about({"weight": pair.weight})
        outcome = pair_row(
            f"{row.id}#{number}", answers[pair.chosen], answers[pair.rejected], about
        )
        if not isinstance(outcome, list):
            return replace(outcome, id=row.id) if isinstance(outcome, Dropped) else outcome
        rows += outcome
    return rows


def pair_row(id_: str, chosen: Outcome, rejected: Outcome, about: str) -> Outcome:
    """Return both sides as one row, or the reason why a side has nothing to train on.

    Args:
        id_: Id of the row.
        chosen: Result of the better answer.
        rejected: Result of the other one.
        about: Metadata that the method reads, as JSON.
    """
    dropped = [side for side in (chosen, rejected) if isinstance(side, Dropped)]
    if dropped:
        return max(dropped, key=lambda side: side.required_length)
    assert isinstance(chosen, list) and isinstance(rejected, list)
    (better,), (worse,) = chosen, rejected
    if np.array_equal(better.input_ids, worse.input_ids):
        return Dropped(id_, "chosen and rejected are the same within max_length")
    return [
        TokenRow(
            id_,
            np.concatenate([better.input_ids, worse.input_ids]),
            np.concatenate([better.labels, worse.labels]),
            truncated=better.truncated or worse.truncated,
            split=len(better.input_ids),
            about=about,
        )
    ]
