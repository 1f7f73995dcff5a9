"""A penalty for an answer that says the same over and over."""

from __future__ import annotations

from collections.abc import Sequence

from training.config.rewards import RepetitionReward
from training.data.schema.rows import PromptRow
from training.rewards.base import Prompt, Reward, RewardContext
from training.rewards.word_count import words


def repeated_share(text: str, ngram: int) -> float:
    """Return the share of a text's n-grams that stood in it before; 0 where it has none."""
    said = words(text.casefold())
    grams = [tuple(said[i : i + ngram]) for i in range(len(said) - ngram + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


class _Repetition:
    def __init__(self, section: RepetitionReward):
        self._ngram = section.ngram

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        return [-repeated_share(answer, self._ngram) for answer in completions]


def build(section: RepetitionReward, place: RewardContext) -> Reward:
    """Return the reward."""
    return _Repetition(section)
