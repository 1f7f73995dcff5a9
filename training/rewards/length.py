"""Whether an answer is as long as wanted."""

from __future__ import annotations

from collections.abc import Sequence

from training.config.rewards import LengthReward
from training.data.schema.rows import PromptRow
from training.rewards.base import Prompt, Reward, RewardContext
from training.rewards.word_count import words


class _Length:
    def __init__(self, section: LengthReward):
        self._section = section

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        return [self._fits(len(words(answer))) for answer in completions]

    def _fits(self, words: int) -> float:
        low, high = self._section.min_words, self._section.max_words
        if words < low:
            return words / low
        if high is not None and words > high:
            return max(0.0, 1.0 - (words - high) / high)
        return 1.0


def build(section: LengthReward, place: RewardContext) -> Reward:
    """Return the reward."""
    return _Length(section)
