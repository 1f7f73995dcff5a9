"""Whether texts stand in an answer."""

from __future__ import annotations

from collections.abc import Sequence

from training.config.rewards import ContainsReward
from training.data.schema.rows import PromptRow
from training.rewards.base import Prompt, Reward, RewardContext


class _Contains:
    def __init__(self, section: ContainsReward):
        self._fold = str.casefold if section.ignore_case else str
        self._texts = [self._fold(text) for text in section.texts]

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        return [self._share(self._fold(answer)) for answer in completions]

    def _share(self, answer: str) -> float:
        return sum(text in answer for text in self._texts) / len(self._texts)


def build(section: ContainsReward, place: RewardContext) -> Reward:
    """Return the reward."""
    return _Contains(section)
