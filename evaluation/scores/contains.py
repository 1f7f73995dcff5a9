"""Containment: 1 if the answer contains a target."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.config.scores import Contains
from evaluation.scores.base import AnsweredItem, ScoreContext, ScoreOutcome
from evaluation.scores.text import compare_texts


class ContainsScore:
    """Share of answers that contain a target.

    Args:
        section: Section of the score.
        context: Not used.
    """

    def __init__(self, section: Contains, context: ScoreContext):
        self._section = section

    def score(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        """Return `contains`."""
        return compare_texts(self._section, "contains", items, self._contains)

    def _contains(self, answer: str, target: str) -> float:
        if self._section.ignore_case:
            answer, target = answer.casefold(), target.casefold()
        return float(target in answer)
