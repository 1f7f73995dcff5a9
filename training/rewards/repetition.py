"""A penalty for an answer that says the same over and over."""

from __future__ import annotations

from collections.abc import Sequence

from training.config.rewards import Repetition
from training.data.rows import PromptRow
from training.rewards.reward import Place, Prompt, Reward
from training.rewards.words import words


def repeated_share(text: str, ngram: int) -> float:
    """Return the share of a text's n-grams that stood in it before; 0 where it has none."""
    said = words(text.casefold())
    grams = [tuple(said[i : i + ngram]) for i in range(len(said) - ngram + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


class _Repetition:
    def __init__(self, section: Repetition):
        self._ngram = section.ngram

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        return [-repeated_share(answer, self._ngram) for answer in completions]


def build(section: Repetition, place: Place) -> Reward:
    """Return the reward."""
    return _Repetition(section)
