"""Whether an answer chooses the right letter."""

from __future__ import annotations

import re
from collections.abc import Sequence

from training.config.rewards import Choice
from training.data.rows import PromptRow
from training.errors import DataError
from training.rewards.reward import Place, Prompt, Reward


class _Choice:
    def __init__(self, section: Choice):
        self._letters = section.letters.upper()
        one = f"[{self._letters}{self._letters.lower()}]"
        # The surest way of saying it comes first: "the answer is (B)", "#### B", "B)", a lone "B".
        self._ways = [
            re.compile(rf"(?:answer|choice|option)\s*(?:is|:)?\s*[\"'(\[*]*({one})\b", re.I),
            re.compile(rf"####\s*[\"'(\[*]*({one})\b"),
            re.compile(rf"(?:^|[\s(\[*])({one})[).\]:*](?=\s|$)"),
            re.compile(rf"(?:^|\s)([{self._letters}])(?=\s*[.!]?\s*$)"),
        ]

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        return [
            float(self._chosen(answer) == self._right(row))
            for answer, row in zip(completions, rows, strict=True)
        ]

    def _chosen(self, text: str) -> str | None:
        for way in self._ways:
            if found := way.findall(text):
                return str(found[-1]).upper()
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


def build(section: Choice, place: Place) -> Reward:
    """Return the reward."""
    return _Choice(section)
