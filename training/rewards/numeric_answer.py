"""Whether an answer ends in the right number, as in GSM8K (Cobbe et al. 2021, arXiv:2110.14168)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from training.config.rewards import NumericAnswer
from training.data.rows import PromptRow
from training.errors import DataError
from training.rewards.reward import Place, Prompt, Reward

_NUMBER = re.compile(r"[-−+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?:\s*/\s*\d[\d,]*)?|[-−+]?\.\d+")


class _NumericAnswer:
    def __init__(self, section: NumericAnswer):
        self._section = section

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        return [self._right(answer, row) for answer, row in zip(completions, rows, strict=True)]

    def _right(self, answer: str, row: PromptRow) -> float:
        expected = final_number(row.reference or "", self._section.marker)
        if expected is None:
            raise DataError(
                f"{row.id}: reward numeric_answer finds no number in the reference "
                f"{(row.reference or '')[-60:]!r}. Name the column that holds the right answer: "
                f"data.train.columns: {{reference: YOUR_COLUMN}}"
            )
        marker = self._section.marker
        found = final_number(answer, marker, marked_only=self._section.marked_only)
        if found is None:
            return 0.0
        return float(math.isclose(found, expected, rel_tol=self._section.tolerance, abs_tol=1e-9))


def final_number(text: str, marker: str, *, marked_only: bool = False) -> float | None:
    """Return the number a text comes to: the first behind its last marker, else its last one.

    Args:
        text: An answer or a reference.
        marker: What the final number stands behind.
        marked_only: Return None where there is no marker.
    """
    _, marked, behind = text.rpartition(marker)
    if marked:
        found = _NUMBER.search(behind)
        return None if found is None else _value(found[0])
    numbers = [] if marked_only else _NUMBER.findall(text)
    return _value(numbers[-1]) if numbers else None


def _value(written: str) -> float | None:
    top, _, bottom = written.replace(",", "").replace("−", "-").partition("/")
    if not bottom:
        return float(top)
    return float(top) / float(bottom) if float(bottom) else None


def build(section: NumericAnswer, place: Place) -> Reward:
    """Return the reward."""
    return _NumericAnswer(section)
