"""Reward for the right final number, as in GSM8K (Cobbe et al. 2021, arXiv:2110.14168)."""

from __future__ import annotations

import math
import re
import unicodedata

from training.config.rewards import NumericAnswerReward
from training.data.schema.rows import PromptRow
from training.errors import DataError
from training.rewards.base import PerAnswerReward, Reward, RewardContext

_NUMBER = re.compile(
    r"""
    (?P<sign>(?<![\w.)\]}])[-−–+])?  # a sign, not a minus or a range as in 5-3 or 2020–21
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
    (?:\s*/\s*(?P<denominator>\d[\d,]*))?
    """,
    re.VERBOSE,
)
_FRAC = re.compile(r"\\[dt]?frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
_VULGAR = re.compile(r"(\d+)?\s?([¼½¾⅐-⅞])")
_BOXED = "\\boxed{"


class _NumericAnswerReward(PerAnswerReward):
    def __init__(self, section: NumericAnswerReward):
        self._section = section

    def score_answer(self, answer: str, row: PromptRow) -> float:
        expected = final_number(row.reference or "", self._section.marker)
        if expected is None:
            raise DataError(
                f"{row.id}: reward numeric_answer finds no number in the reference "
                f"{(row.reference or '')[-60:]!r}. Name the column that holds the right answer: "
                f"data.train.columns: {{reference: YOUR_COLUMN}}"
            )
        marker = self._section.marker
        given = final_number(answer, marker, marked_only=self._section.marked_only)
        if given is None:
            return 0.0
        return float(math.isclose(given, expected, rel_tol=self._section.tolerance, abs_tol=1e-9))


def final_number(text: str, marker: str, *, marked_only: bool = False) -> float | None:
    r"""Return the final number of a text; None if it has none.

    The final number is the first one after the last marker. Without a marker, it is the last one
    in the last `\boxed{}`, and without that the last one of the text.

    Args:
        text: An answer or a reference.
        marker: Text that precedes the final number, such as `####`.
        marked_only: Return None if there is no marker.
    """
    text = _normalize(text)
    _, marked, after = text.rpartition(marker)
    if marked:
        match = _NUMBER.search(after)
        return None if match is None else _value(match)
    if marked_only:
        return None
    _, boxed, after = text.rpartition(_BOXED)
    inside = after.partition("}")[0] if boxed else ""
    numbers = list(_NUMBER.finditer(inside)) or list(_NUMBER.finditer(text))
    return _value(numbers[-1]) if numbers else None


def _normalize(text: str) -> str:
    """Return a text with fractions written as 1/2 and without LaTeX spacing inside numbers."""
    text = text.replace("{,}", ",").replace("\\!", "").replace("\\,", "\u2009").replace("⁄", "/")
    text = _FRAC.sub(lambda m: f"{m[1] or m[2]}/{m[3] or m[4]}", text)
    return _VULGAR.sub(lambda m: repr(int(m[1] or 0) + unicodedata.numeric(m[2])), text)


def _value(match: re.Match[str]) -> float | None:
    """Return the value of a matched number; None if it is infinite or divides by zero."""
    digits = re.sub("[\u00a0\u202f\u2009'’ ]", "", match["digits"])
    if re.search(r",\d{1,2}$", digits):
        digits = digits.replace(".", "").replace(",", ".")
    elif digits.count(".") > 1:
        digits = digits.replace(".", "")
    power = re.sub(r"\s?[×x·*]\s?10\s?\^\s?\{?", "e", match["power"] or "").strip("} ")
    value = float((digits.replace(",", "") + power).replace("−", "-"))
    if match["denominator"]:
        denominator = float(match["denominator"].replace(",", ""))
        value = value / denominator if denominator else math.inf
    value = -value if match["sign"] in ("-", "−", "–") else value
    return value if math.isfinite(value) else None


def build(section: NumericAnswerReward, context: RewardContext) -> Reward:
    """Return the reward."""
    return _NumericAnswerReward(section)
