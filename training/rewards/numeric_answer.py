"""Whether an answer ends in the right number, as in GSM8K (Cobbe et al. 2021, arXiv:2110.14168)."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

from training.config.rewards import NumericAnswerReward
from training.data.schema.rows import PromptRow
from training.errors import DataError
from training.rewards.base import Prompt, Reward, RewardContext

_NUMBER = re.compile(
    r"""
    (?P<sign>(?<![\w.)\]}])[-−–+])?  # of a number, not of a difference or a range: 5-3, 2020–21
    (?:[$€£¥]\s?)?
    (?P<digits>
      \d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)(?:\.\d+)?            # 1,234.50 and 12,34,567
    | \d{1,3}(?:\.\d{3})+,\d{1,2}(?!\d)                     # 1.234,50
    | \d{1,3}(?:\.\d{3}){2,}(?![\d.])                       # 1.234.567
    | \d{1,3}(?:[\u00a0\u202f\u2009'’]\d{3})+(?!\d)(?:[.,]\d+)?  # 1'234.50, 1 234,50
    | \d{1,3}(?:[ ]\d{3})+,\d{1,2}(?!\d)                    # 1 234,50
    | (?<!\d,)\d+,\d{1,2}(?![\d,])                          # 12,50
    | \d+(?:\.\d+)?
    | \.\d+
    )
    (?P<power>[eE][-−+]?\d+ | \s?[×x·*]\s?10\s?\^\s?\{?[-−]?\d+\}?)?
    (?:\s*/\s*(?P<under>\d[\d,]*))?
    """,
    re.VERBOSE,
)
_FRAC = re.compile(r"\\[dt]?frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
_VULGAR = re.compile(r"(\d+)?\s?([¼½¾⅐-⅞])")
_BOXED = "\\boxed{"


class _NumericAnswer:
    def __init__(self, section: NumericAnswerReward):
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
    r"""Return the number a text comes to.

    It is the first behind the last marker; without one the last in the last `\boxed{}`; else the
    last of all.

    Args:
        text: An answer or a reference.
        marker: What the final number stands behind.
        marked_only: Return None where there is no marker.
    """
    text = _plain(text)
    _, marked, behind = text.rpartition(marker)
    if marked:
        found = _NUMBER.search(behind)
        return None if found is None else _value(found)
    if marked_only:
        return None
    _, boxed, behind = text.rpartition(_BOXED)
    inside = behind.partition("}")[0] if boxed else ""
    numbers = list(_NUMBER.finditer(inside)) or list(_NUMBER.finditer(text))
    return _value(numbers[-1]) if numbers else None


def _plain(text: str) -> str:
    """Return a text with its fractions written as 1/2, and without what LaTeX puts in numbers."""
    text = text.replace("{,}", ",").replace("\\!", "").replace("\\,", "\u2009").replace("⁄", "/")
    text = _FRAC.sub(lambda m: f"{m[1] or m[2]}/{m[3] or m[4]}", text)
    return _VULGAR.sub(lambda m: repr(int(m[1] or 0) + unicodedata.numeric(m[2])), text)


def _value(found: re.Match[str]) -> float | None:
    """Return what is written; None for a division by zero and what no float holds."""
    digits = re.sub("[\u00a0\u202f\u2009'’ ]", "", found["digits"])
    if re.search(r",\d{1,2}$", digits):
        digits = digits.replace(".", "").replace(",", ".")
    elif digits.count(".") > 1:
        digits = digits.replace(".", "")
    power = re.sub(r"\s?[×x·*]\s?10\s?\^\s?\{?", "e", found["power"] or "").strip("} ")
    value = float((digits.replace(",", "") + power).replace("−", "-"))
    if found["under"]:
        under = float(found["under"].replace(",", ""))
        value = value / under if under else math.inf
    value = -value if found["sign"] in ("-", "−", "–") else value
    return value if math.isfinite(value) else None


def build(section: NumericAnswerReward, place: RewardContext) -> Reward:
    """Return the reward."""
    return _NumericAnswer(section)
