"""Reward that is a judge's rating of an answer, scaled to 0 to 1.

The judge's replies are cached, in the shared cache or in the run folder, so that a resumed run does
not ask the same question twice.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from training.config.rewards import JudgeReward
from training.data.schema.rows import Message, PromptRow
from training.judges.base import Judge, JudgeContext, JudgeUsage, ask, build_judge
from training.rewards.base import Prompt, Reward
from training.rewards.context import RewardContext

logger = logging.getLogger(__name__)

_QUESTION = """You judge answers. {criteria}

The question was:
{prompt}

The answer is:
{answer}

Rate the answer from 1 (worst) to {scale} (best). Reply with the number alone."""
_REMINDER = "Reply with a whole number from 1 to {scale}, and with nothing else."
_RATING = re.compile(r"(?<![\d.])(\d+)(?![\d]|\.\d)")


class _JudgeReward:
    def __init__(self, section: JudgeReward, judge: Judge):
        self._section = section
        self._judge = judge
        self.usage = JudgeUsage()

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        unusable_before = self.usage.unusable
        ratings = ask(
            self._judge,
            [self._question(p, answer) for p, answer in zip(prompts, completions, strict=True)],
            self._parse_rating,
            reminder=_REMINDER.format(scale=self._section.scale),
            retries=self._section.judge.retries,
            usage=self.usage,
        )
        if self.usage.unusable > unusable_before:
            logger.warning(
                "the judge gave no rating of %d of %d answers so far; the score of such answers "
                "is 0",
                *(self.usage.unusable, self.usage.questions),
            )
        return [0.0 if rating is None else rating for rating in ratings]

    def _question(self, prompt: Prompt, answer: str) -> list[Message]:
        text = _QUESTION.format(
            criteria=self._section.criteria,
            prompt=_as_text(prompt),
            answer=answer,
            scale=self._section.scale,
        )
        return [{"role": "user", "content": text}]

    def _parse_rating(self, reply: str) -> float | None:
        """Return the rating in a reply, scaled to 0 to 1; None if it has none within the scale."""
        match = _RATING.search(reply)
        if not match or not 1 <= int(match[1]) <= self._section.scale:
            return None
        return (int(match[1]) - 1) / max(1, self._section.scale - 1)


def _as_text(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def build(section: JudgeReward, context: RewardContext) -> Reward:
    """Return the reward.

    Raises:
        RunError: The judge's key is not set, or its calls could cost more than the job allows.
        ModelError: The judge is a local model that cannot be read.
    """
    judge_context = JudgeContext(
        device=context.device,
        folder=context.folder,
        cache=context.cache or context.folder / "cache",
        max_cost_usd=context.max_cost_usd,
    )
    return _JudgeReward(section, build_judge(section.judge, judge_context))
