"""How often a pattern stands in an answer.

The package `regex` reads patterns as `re` does and can be given a time limit: a pattern such as
`(a+)+$` takes minutes for some answers, and a policy may come to write them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import regex

from training.config.rewards import RegexCountReward
from training.data.schema.rows import PromptRow
from training.rewards.base import Prompt, Reward, RewardContext

logger = logging.getLogger(__name__)
LIMIT_S = 0.5
"""Time for one answer."""


class _RegexCount:
    def __init__(self, section: RegexCountReward):
        self._section = section
        flags = regex.IGNORECASE if section.ignore_case else 0
        self._pattern = regex.compile(section.pattern, flags | regex.VERSION0)
        self._given_up = 0

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        before = self._given_up
        found = [self._count(text) for text in completions]
        if self._given_up > before:
            logger.warning(
                "the pattern %r took more than %g s for %d answers so far; they count 0. It tries "
                "too many ways to match: write a repeat within a repeat, such as (a+)+, as one",
                *(self._section.pattern, LIMIT_S, self._given_up),
            )
        return found

    def _count(self, text: str) -> float:
        try:
            count = sum(1 for _ in self._pattern.finditer(text, timeout=LIMIT_S))
        except TimeoutError:
            self._given_up += 1
            return 0.0
        found = self._section.scale * count
        return found if self._section.cap is None else min(found, self._section.cap)


def build(section: RegexCountReward, place: RewardContext) -> Reward:
    """Return the reward."""
    return _RegexCount(section)
