"""Reward for the share of given texts that an answer contains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.data.schema.rows import PromptRow
from training.rewards.base import PerAnswerReward, Reward

if TYPE_CHECKING:
    from training.config.rewards import ContainsReward
    from training.rewards.context import RewardContext


class _ContainsReward(PerAnswerReward):
    def __init__(self, section: ContainsReward):
        self._normalize = str.casefold if section.ignore_case else str
        self._texts = [self._normalize(text) for text in section.texts]

    def score_answer(self, answer: str, row: PromptRow) -> float:
        normalized = self._normalize(answer)
        return sum(text in normalized for text in self._texts) / len(self._texts)


def build(section: ContainsReward, context: RewardContext) -> Reward:
    """Return the reward."""
    return _ContainsReward(section)
