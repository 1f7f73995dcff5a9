"""A judge's rating of an answer, from 0 to 1.

Replies are kept, in the cache and in the run folder: a resumed run asks nothing twice.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from training.config.rewards import JudgeReward
from training.data.schema.rows import Message, PromptRow
from training.judges.base import Judge as Asked
from training.judges.base import JudgeContext as Bench
from training.judges.base import JudgeUsage, ask
from training.judges.base import make as make_judge
from training.rewards.base import Prompt, Reward, RewardContext

logger = logging.getLogger(__name__)

_ASK = """You judge answers. {criteria}

The question was:
{prompt}

The answer is:
{answer}

Rate the answer from 1 (worst) to {scale} (best). Reply with the number alone."""
_WANTED = "Reply with a whole number from 1 to {scale}, and with nothing else."
_NUMBER = re.compile(r"(?<![\d.])(\d+)(?![\d]|\.\d)")


class _Judge:
    def __init__(self, section: JudgeReward, judge: Asked):
        self._section = section
        self._judge = judge
        self.count = JudgeUsage()

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        before = self.count.nonsense
        ratings = ask(
            self._judge,
            [self._question(p, answer) for p, answer in zip(prompts, completions, strict=True)],
            self._read,
            wanted=_WANTED.format(scale=self._section.scale),
            retries=self._section.judge.retries,
            count=self.count,
        )
        if self.count.nonsense > before:
            logger.warning(
                "the judge gave no rating of %d of %d answers so far; such answers count 0",
                *(self.count.nonsense, self.count.asked),
            )
        return [0.0 if rating is None else rating for rating in ratings]

    def _question(self, prompt: Prompt, answer: str) -> list[Message]:
        said = _ASK.format(
            criteria=self._section.criteria,
            prompt=_written(prompt),
            answer=answer,
            scale=self._section.scale,
        )
        return [{"role": "user", "content": said}]

    def _read(self, reply: str) -> float | None:
        """Return the rating in a reply, where there is one within the scale."""
        found = _NUMBER.search(reply)
        if not found or not 1 <= int(found[1]) <= self._section.scale:
            return None
        return (int(found[1]) - 1) / max(1, self._section.scale - 1)


def _written(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def build(section: JudgeReward, place: RewardContext) -> Reward:
    """Return the reward.

    Raises:
        RunError: The judge's key is not set, or its calls could cost more than the job allows.
        ModelError: The judge is a model here that cannot be read.
    """
    bench = Bench(
        device=place.device,
        folder=place.folder,
        cache=place.cache or place.folder / "cache",
        max_cost_usd=place.max_cost_usd,
    )
    return _Judge(section, make_judge(section.judge, bench))
