"""Reward for an answer whose number of words is within limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.data.schema.rows import PromptRow
from training.rewards.base import PerAnswerReward, Reward
from training.rewards.word_count import split_words

if TYPE_CHECKING:
    from training.config.rewards import LengthReward
    from training.rewards.context import RewardContext


class _LengthReward(PerAnswerReward):
    def __init__(self, section: LengthReward):
        self._section = section

    def score_answer(self, answer: str, row: PromptRow) -> float:
        count = len(split_words(answer))
        low, high = self._section.min_words, self._section.max_words
        # Linear outside the limits, so that an answer nearer to them scores higher.
        if count < low:
            return count / low
        if high is not None and count > high:
            return max(0.0, 1.0 - (count - high) / high)
        return 1.0


def build(section: LengthReward, context: RewardContext) -> Reward:
    """Return the reward."""
    return _LengthReward(section)
