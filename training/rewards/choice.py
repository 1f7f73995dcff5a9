"""Reward for choosing the right letter of a multiple-choice question."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from training.data.schema.rows import PromptRow
from training.errors import DataError
from training.rewards.base import PerAnswerReward, Reward, reference_fix

if TYPE_CHECKING:
    from training.config.rewards import ChoiceReward
    from training.rewards.context import RewardContext


class _ChoiceReward(PerAnswerReward):
    def __init__(self, section: ChoiceReward):
        # Patterns in order of reliability: "the answer is (B)", "#### B", "B)", a lone "B".
        self._letters = section.letters.upper()
        large, small = f"[{self._letters}]", f"[{self._letters.lower()}]"
        opens, closes = r"[\s\"'“‘(\[*{$`_]*", r"[)\].,:;*\"'”’}$`_<。）]"
        ends = r"(?![A-Za-z0-9])"
        # "a" and "I" are also words: a lowercase letter must stand alone or be punctuated.
        letter = rf"({large}{ends}|{small}(?={closes}|\s*$))"
        self._patterns = [
            re.compile(rf"(?:(?i:\banswer|\bchoice|\boption)\s*(?:(?i:is\b)|[:：=])|答案[是为]?[:：]?)"
                       rf"\s*:?{opens}{letter}"),
            re.compile(rf"(?i:\boption|\bchoice|\banswer)\s*{opens}({large}){ends}"
                       rf"(?:(?<=[^AI])|(?!\s+[a-z])|(?=\s+is\b))"),
            re.compile(rf"####{opens}{letter}"),
            re.compile(rf"(?:\\boxed\{{\s*(?:\\text\w*\{{)?|<answer>\s*){opens}{letter}"),
            re.compile(rf"(?:^|[\s\"'“‘(\[*{{$`>_])([{self._letters}{self._letters.lower()}])"
                       rf"[)\].:*\"'”’}}$`_]+(?=[\s,;]|$)"),
            re.compile(rf"(?:^|\s)({large})(?=\s*[.!。]?\s*$)|^\s*({small})\s*$"),
        ]  # fmt: skip

    def score_answer(self, answer: str, row: PromptRow) -> float:
        return float(self._extract(answer) == self._expected(row))

    def _extract(self, text: str) -> str | None:
        """Return the last letter that the most reliable matching pattern finds."""
        for pattern in self._patterns:
            if matches := list(pattern.finditer(text)):
                return str(next(letter for letter in matches[-1].groups() if letter)).upper()
        return None

    def _expected(self, row: PromptRow) -> str:
        text = (row.reference or "").strip()
        letter = text.upper() if len(text) == 1 else self._extract(text)
        if letter is None or letter not in self._letters:
            raise DataError(
                f"{row.id}: reward choice finds none of the letters {self._letters} in the "
                f"reference {text[:60]!r}. {reference_fix(row)}"
            )
        return letter


def build(section: ChoiceReward, context: RewardContext) -> Reward:
    """Return the reward."""
    return _ChoiceReward(section)
