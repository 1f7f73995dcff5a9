"""Reward for each match of a pattern in an answer.

Patterns are matched by the package `regex`, which has the syntax of `re` and supports a time limit:
a pattern with catastrophic backtracking, such as `(a+)+$`, takes minutes on some answers, and
training may lead a policy to produce them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import regex

from training.data.schema.rows import PromptRow
from training.rewards.base import PerAnswerReward, Prompt, Reward

if TYPE_CHECKING:
    from training.config.rewards import RegexCountReward
    from training.rewards.context import RewardContext

logger = logging.getLogger(__name__)
LIMIT_S = 0.5
"""Time limit for matching one answer."""


class _RegexCountReward(PerAnswerReward):
    def __init__(self, section: RegexCountReward):
        self._section = section
        flags = regex.IGNORECASE if section.ignore_case else 0
        self._pattern = regex.compile(section.pattern, flags | regex.VERSION0)
        self._timeouts = 0

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        timeouts_before = self._timeouts
        scores = super().score(prompts, completions, rows)
        if self._timeouts > timeouts_before:
            logger.warning(
                "the pattern %r took more than %g s for %d answers so far; their score is 0. It "
                "backtracks too much: rewrite nested repeats, such as (a+)+, as a single repeat",
                *(self._section.pattern, LIMIT_S, self._timeouts),
            )
        return scores

    def score_answer(self, answer: str, row: PromptRow) -> float:
        try:
            count = sum(1 for _ in self._pattern.finditer(answer, timeout=LIMIT_S))
        except TimeoutError:
            self._timeouts += 1
            return 0.0
        score = self._section.scale * count
        return score if self._section.cap is None else min(score, self._section.cap)


def build(section: RegexCountReward, context: RewardContext) -> Reward:
    """Return the reward."""
    return _RegexCountReward(section)
