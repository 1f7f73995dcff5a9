"""`method:` of prompts that are answered and rewarded while training: GRPO, RLOO, PPO."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from training.config.method_base import MethodSection
from training.config.ppo import CriticSettings, KlSettings, PpoRollout, StopRules, validate_ppo
from training.config.rewards import Rewards, RolloutSettings
from training.config.types import PositiveFloat, PositiveInt
from training.errors import Problem


class Sampling(MethodSection):
    """What the methods share that sample a group of answers to each prompt."""

    rows = "prompt"

    reward: Rewards
    """What makes an answer better: one reward, or a list of them that are added up."""
    num_generations: int = Field(default=8, ge=2)
    """Answers to each prompt. `train.global_batch_size` counts answers, and is a multiple of it."""
    beta: float = Field(default=0.0, ge=0)
    """What straying from the start costs, for each nat; 0 leaves the reference out."""
    rollout: RolloutSettings = RolloutSettings()
    mask_truncated: bool = False
    """Learn nothing from answers that did not end within `rollout.max_new_tokens`."""

    @property
    def max_new_tokens(self) -> int:
        """Longest answer sampled from each prompt."""
        return self.rollout.max_new_tokens

    @property
    def answers_per_prompt(self) -> int:
        """Answers sampled to each prompt of a step."""
        return self.num_generations


class Grpo(Sampling):
    """GRPO (Shao et al. 2024, arXiv:2402.03300): a group's answers against their mean."""

    impl = "training.methods.grpo:build"
    title = "Reinforcement learning (GRPO)"

    kind: Literal["grpo"]
    loss: Literal["dapo", "grpo", "dr_grpo"] = "dapo"
    """A mean over all tokens of a step (`dapo`), over answers (`grpo`), or over the tokens there
    was room for (`dr_grpo`), which favours neither short answers nor long ones."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Whether advantages are divided by the spread of their group, of the whole step, or not."""


class Rloo(Sampling):
    """RLOO (Ahmadian et al. 2024, arXiv:2402.14740): an answer against the others to its prompt."""

    impl = "training.methods.rloo:build"
    title = "Reinforcement learning (RLOO)"

    kind: Literal["rloo"]
    normalize_advantages: bool = False
    """Whether advantages are brought to a mean of 0 and a spread of 1 over the step."""


class Ppo(MethodSection):
    """Reinforcement learning with a critic (Schulman et al. 2017, arXiv:1707.06347).

    A rollout answers a batch of prompts and scores the answers; what scored better than the critic
    expected becomes likelier, in `epochs` passes over the rollout. A step is an optimizer step.
    """

    impl = "training.methods.ppo:build"
    rows = "prompt"
    title = "Reinforcement learning (PPO)"

    kind: Literal["ppo"]
    reward: Rewards
    rollout: PpoRollout = PpoRollout()
    kl: KlSettings = KlSettings()
    epochs: PositiveInt = 2
    """How often each rollout is gone through."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """How far below 1 the ratio of new to old probability still counts."""
    clip_high: PositiveFloat = 0.2
    """How far above 1 it still counts."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount of a token."""
    lam: float = Field(default=0.95, ge=0, le=1)
    """λ of the advantages: 0 trusts the critic alone, 1 only what was seen."""
    critic: CriticSettings = CriticSettings()
    stop: StopRules = StopRules()

    @property
    def max_new_tokens(self) -> int:
        """Longest answer sampled from each prompt while training."""
        return self.rollout.max_new_tokens

    @property
    def waits_steps(self) -> int:
        """Steps in which only the critic learns."""
        return self.critic.warmup_steps

    def rounds(self, global_batch_size: int) -> tuple[int, int] | None:
        """Return the prompts of a rollout, and how often it is gone through."""
        return self.rollout.batch or global_batch_size, self.epochs

    def clashes(self, job: Any) -> Iterator[Problem]:
        """Yield what it cannot go with in the rest of a job."""
        yield from validate_ppo(self, job)
