"""Whether an answer chooses the right letter."""

from __future__ import annotations

import re
from collections.abc import Sequence

from training.config.rewards import ChoiceReward
from training.data.schema.rows import PromptRow
from training.errors import DataError
from training.rewards.base import Prompt, Reward, RewardContext


class _Choice:
    def __init__(self, section: ChoiceReward):
        # The surest way of saying it comes first: "the answer is (B)", "#### B", "B)", a lone "B".
        self._letters = section.letters.upper()
        large, small = f"[{self._letters}]", f"[{self._letters.lower()}]"
        opens, closes = r"[\s\"'“‘(\[*{$`_]*", r"[)\].,:;*\"'”’}$`_<。）]"
        ends = r"(?![A-Za-z0-9])"
        # "a" and "I" are words too: a small letter must stand alone, or be set off.
        one = rf"({large}{ends}|{small}(?={closes}|\s*$))"
        self._ways = [
            re.compile(rf"(?:(?i:\banswer|\bchoice|\boption)\s*(?:(?i:is\b)|[:：=])|答案[是为]?[:：]?)"
                       rf"\s*:?{opens}{one}"),
            re.compile(rf"(?i:\boption|\bchoice|\banswer)\s*{opens}({large}){ends}"
                       rf"(?:(?<=[^AI])|(?!\s+[a-z])|(?=\s+is\b))"),
            re.compile(rf"####{opens}{one}"),
            re.compile(rf"(?:\\boxed\{{\s*(?:\\text\w*\{{)?|<answer>\s*){opens}{one}"),
            re.compile(rf"(?:^|[\s\"'“‘(\[*{{$`>_])([{self._letters}{self._letters.lower()}])"
                       rf"[)\].:*\"'”’}}$`_]+(?=[\s,;]|$)"),
            re.compile(rf"(?:^|\s)({large})(?=\s*[.!。]?\s*$)|^\s*({small})\s*$"),
        ]  # fmt: skip

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        return [
            float(self._chosen(answer) == self._right(row))
            for answer, row in zip(completions, rows, strict=True)
        ]

    def _chosen(self, text: str) -> str | None:
        for way in self._ways:
            if found := list(way.finditer(text)):
                return str(next(letter for letter in found[-1].groups() if letter)).upper()
        return None

    def _right(self, row: PromptRow) -> str:
        text = (row.reference or "").strip()
        letter = text.upper() if len(text) == 1 else self._chosen(text)
        if letter is None or letter not in self._letters:
            raise DataError(
                f"{row.id}: reward choice finds none of the letters {self._letters} in the "
                f"reference {text[:60]!r}. Name the column that holds the right letter: "
                f"data.train.columns: {{reference: YOUR_COLUMN}}"
            )
        return letter


def build(section: ChoiceReward, place: RewardContext) -> Reward:
    """Return the reward."""
    return _Choice(section)
