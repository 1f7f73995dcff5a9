"""Numeric answer: 1 if the final number of the answer is that of a target."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evaluation.config.scores import NumericAnswer
from evaluation.scores.base import AnsweredItem, ScoreContext, ScoreOutcome, per_item_outcome
from training.errors import DataError
from training.rewards.numeric_answer import final_number


class NumericAnswerScore:
    """Share of answers whose final number is a target's, as the reward `numeric_answer` reads it.

    Args:
        section: Section of the score.
        context: Not used.
    """

    def __init__(self, section: NumericAnswer, context: ScoreContext):
        self._section = section

    def score(self, items: Sequence[AnsweredItem]) -> ScoreOutcome:
        """Return `numeric_answer`.

        Raises:
            DataError: A target lacks a number.
        """
        values, details = [], []
        for item in items:
            expected = [self._expected(item, target) for target in item.targets]
            numbers = [
                final_number(answer, self._section.marker, marked_only=self._section.marked_only)
                for answer in item.answers
            ]
            values.append(sum(self._equals(n, expected) for n in numbers) / len(numbers))
            details.append({"number": numbers, "expected": expected})
        return per_item_outcome(self._section, "numeric_answer", values, details)

    def _expected(self, item: AnsweredItem, target: str) -> float:
        number = final_number(target, self._section.marker)
        if number is None:
            raise DataError(
                f"score numeric_answer finds no number in the target {target[-60:]!r} of item "
                f"{item.id}. Correct the row, or write target: with the column that holds it"
            )
        return number

    def _equals(self, number: float | None, expected: Sequence[float]) -> bool:
        tolerance = self._section.tolerance
        return number is not None and any(
            math.isclose(number, right, rel_tol=tolerance, abs_tol=1e-9) for right in expected
        )
