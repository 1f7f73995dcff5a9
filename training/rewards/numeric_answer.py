"""Reward for the right final number, as in GSM8K (Cobbe et al. 2021, arXiv:2110.14168)."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TYPE_CHECKING

from training.data.schema.rows import PromptRow
from training.errors import DataError
from training.rewards.base import PerAnswerReward, Reward, reference_fix

if TYPE_CHECKING:
    from training.config.rewards import NumericAnswerReward
    from training.rewards.context import RewardContext

_NUMBER = re.compile(
    r"""
    (?P<sign>(?<![\w.)\]}])[-−–+])?  # a sign, not a minus or a range as in 5-3 or 2020–21
    (?:[$€£¥]\s?)?
    (?:(?P<whole>\d+)\s+(?P<part>\d+)\s?/\s?(?P<parts>\d+)(?![\d/.])  # 7 1/2
    |
    (?P<digits>
      \d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)(?:\.\d+)?            # 1,234.50 and 12,34,567
    | \d{1,3}(?:\.\d{3})+,\d{1,2}(?!\d)                     # 1.234,50
    | \d{1,3}(?:\.\d{3}){2,}(?![\d.])                       # 1.234.567
    | \d{1,3}(?:[\u00a0\u202f\u2009'’]\d{3})+(?!\d)(?:[.,]\d+)?  # 1'234.50, 1 234,50
    # 1 234,50 and 1 000 000. Groups of three digits after a space are one number (SI brochure,
    # 9th edition, 5.4.4), so 72 100 is 72100: an answer that lists two numbers is neither of them.
    | \d{1,3}(?:[ ]\d{3})+(?:,\d{1,2})?(?![.,]?\d)
    | (?<!\d,)\d+,\d{1,2}(?![\d,])                          # 12,50
    | \d+(?:\.\d+)?
    | \.\d+
    )
    (?P<power>[eE][-−+]?\d+ | \s?[×x·*]\s?10\s?\^\s?\{?[-−]?\d+\}?)?
    (?:\s?(?:\^|\*\*)\s?(?P<exponent>[-−]?\d+))?  # 2^10
    (?:\s*/\s*(?P<denominator>\d[\d,]*))?
    )
    | (?P<other>\0(?:\s*[/*^]\s*\d+)?)  # an expression without a value here
    """,
    re.VERBOSE,
)
_FRAC = re.compile(r"(\d+)?\s*\\[dt]?frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
_BRACES = r"\{(?:[^{}]|\{[^{}]*\})*\}"
_WITHOUT_VALUE = re.compile(
    rf"\\[dt]?frac\s*{_BRACES}\s*{_BRACES}"
    rf"|(?:\d[\d.,]*\s*)?(?:\\sqrt\s*(?:\[\d+\])?\s*(?:{_BRACES}|\d)|√\s*\d*|\\pi\b|π)"
    rf"|\d[\d.,]*\s*\^\s*{_BRACES}"
)
"""Roots, multiples of π and nested fractions, whose last number is not their value."""
_EXPONENT = re.compile(r"\^\s*\{\s*([-−]?\d+)\s*\}")
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
                f"{(row.reference or '')[-60:]!r}. {reference_fix(row)}"
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
    text = text.replace("\0", " ").replace("{,}", ",").replace("\\!", "").replace("⁄", "/")
    text = text.replace("\\,", "\u2009").replace("\\times", "×").replace("\\cdot", "·")
    text = _EXPONENT.sub(r"^\1", text)
    text = _FRAC.sub(lambda m: f"{m[1] + ' ' if m[1] else ''}{m[2] or m[3]}/{m[4] or m[5]}", text)
    text = _WITHOUT_VALUE.sub("\0", text)
    return _VULGAR.sub(lambda m: repr(int(m[1] or 0) + unicodedata.numeric(m[2])), text)


def _value(match: re.Match[str]) -> float | None:
    """Return the value of a matched number; None if it is infinite or divides by zero."""
    if match["other"]:
        return None
    if match["whole"]:
        parts = int(match["parts"])
        value = int(match["whole"]) + int(match["part"]) / parts if parts else math.inf
        return _signed(match, value)
    digits = re.sub("[\u00a0\u202f\u2009'’ ]", "", match["digits"])
    if re.search(r",\d{1,2}$", digits):
        digits = digits.replace(".", "").replace(",", ".")
    elif digits.count(".") > 1:
        digits = digits.replace(".", "")
    power = re.sub(r"\s?[×x·*]\s?10\s?\^\s?\{?", "e", match["power"] or "").strip("} ")
    value = float((digits.replace(",", "") + power).replace("−", "-"))
    if match["exponent"]:
        try:
            value **= int(match["exponent"].replace("−", "-"))
        except (OverflowError, ZeroDivisionError):
            return None
    if match["denominator"]:
        denominator = float(match["denominator"].replace(",", ""))
        value = value / denominator if denominator else math.inf
    return _signed(match, value)


def _signed(match: re.Match[str], value: float) -> float | None:
    value = -value if match["sign"] in ("-", "−", "–") else value
    return value if math.isfinite(value) else None


def build(section: NumericAnswerReward, context: RewardContext) -> Reward:
    """Return the reward."""
    return _NumericAnswerReward(section)
