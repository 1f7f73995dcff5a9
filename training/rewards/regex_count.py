"""How often a pattern stands in an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from training.config.rewards import RegexCount
from training.data.rows import PromptRow
from training.rewards.reward import Place, Prompt, Reward


class _RegexCount:
    def __init__(self, section: RegexCount):
        self._section = section
        self._pattern = re.compile(section.pattern, re.IGNORECASE if section.ignore_case else 0)

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        return [self._count(text) for text in completions]

    def _count(self, text: str) -> float:
        found = self._section.scale * sum(1 for _ in self._pattern.finditer(text))
        return found if self._section.cap is None else min(found, self._section.cap)


def build(section: RegexCount, place: Place) -> Reward:
    """Return the reward."""
    return _RegexCount(section)
