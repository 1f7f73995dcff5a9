"""Penalty for repeated n-grams within an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.data.schema.rows import PromptRow
from training.rewards.base import PerAnswerReward, Reward
from training.rewards.word_count import split_words

if TYPE_CHECKING:
    from training.config.rewards import RepetitionReward
    from training.rewards.context import RewardContext


def repeated_share(text: str, ngram: int) -> float:
    """Return the share of a text's n-grams of words that occurred in it before; 0 for none."""
    words = split_words(text.casefold())
    grams = [tuple(words[i : i + ngram]) for i in range(len(words) - ngram + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


class _RepetitionReward(PerAnswerReward):
    def __init__(self, section: RepetitionReward):
        self._ngram = section.ngram

    def score_answer(self, answer: str, row: PromptRow) -> float:
        return -repeated_share(answer, self._ngram)


def build(section: RepetitionReward, context: RewardContext) -> Reward:
    """Return the reward."""
    return _RepetitionReward(section)
