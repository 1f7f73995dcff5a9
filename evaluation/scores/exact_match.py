"""Exact match: 1 if the answer equals a target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evaluation.config.scores import ExactMatch
from evaluation.scores.base import AnsweredItem, ScoreContext, ScoreOutcome
from evaluation.scores.text import compare_texts
from training.evaluation.generation_metrics.normalize import normalize_answer

NORMALIZE: dict[str, Callable[[str], str]] = {
    "squad": normalize_answer,
    "whitespace": lambda text: " ".join(text.split()),
    "none": lambda text: text,
}


class ExactMatchScore:
    """Share of answers that equal a target after normalization.

    Args:
        section: Section of the score.
        context: Not used.
    """

    def __init__(self, section: ExactMatch, context: ScoreContext):
        self._section = section
        self._normalize = NORMALIZE[section.normalize]

    def score(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        """Return `exact_match`."""
        return compare_texts(self._section, "exact_match", items, self._equal)

    def _equal(self, answer: str, target: str) -> float:
        return float(self._normalize(answer) == self._normalize(target))
