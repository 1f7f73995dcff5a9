"""Token F1: harmonic mean of precision and recall of the answer's words."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.config.scores import TokenF1
from evaluation.scores.base import AnsweredItem, ScoreContext, ScoreOutcome
from evaluation.scores.text import compare_texts
from training.evaluation.generation_metrics.token_f1 import score as token_f1


class TokenF1Score:
    """F1 of SQuAD over bags of words, the best over the targets.

    Args:
        section: Section of the score.
        context: Not used.
    """

    def __init__(self, section: TokenF1, context: ScoreContext):
        self._section = section

    def score(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        """Return `token_f1`."""
        return compare_texts(self._section, "token_f1", items, token_f1)
