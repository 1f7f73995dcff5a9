"""Section `method:` of the critic-free online RL methods: GRPO and RLOO."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from training.config.method_base import MethodSection
from training.config.rewards import Rewards, RolloutSettings


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
