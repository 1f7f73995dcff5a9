"""Section `method:` of the critic-free online RL methods: GRPO and RLOO."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from training.config.method_base import MethodSection
from training.config.metric_labels import ROLLOUTS
from training.config.rewards import Rewards, RolloutSettings, scorer_models
from training.config.step_profile import RolloutProfile, StepProfile, StepSpec, reference_model


class Sampling(MethodSection):
    """Keys that methods share which sample a group of answers to each prompt."""

    rows = "prompt"
    metrics = ROLLOUTS

    reward: Rewards
    """One reward, or a list of rewards whose weighted sum is the reward of an answer."""
    num_generations: int = Field(default=8, ge=2)
    """Answers per prompt. `train.global_batch_size` counts answers and is a multiple of it."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL divergence from the reference; with 0 no reference is kept."""
    rollout: RolloutSettings = RolloutSettings()
    mask_truncated: bool = False
    """Leave answers that did not end within `rollout.max_new_tokens` out of the loss."""

    @property
    def max_new_tokens(self) -> int:
        """Longest answer sampled for a prompt."""
        return self.rollout.max_new_tokens

    @property
    def answers_per_prompt(self) -> int:
        """Answers sampled for each prompt of a step."""
        return self.num_generations

    def step_profile(self, job: Any, step: StepSpec) -> StepProfile:
        """Return the costs of a step that samples its answers first.

        Args:
            job: The job that the method is part of.
            step: Size of a step on one device.
        """
        rollout = RolloutProfile(
            step.rows_per_device,
            step.max_prompt_tokens,
            self.rollout.max_new_tokens,
            self.rollout.top_k > 0,
            self.rollout.top_p < 1,
        )
        return StepProfile(
            head="answers",
            frozen=reference_model(job) if self.beta else None,
            rollout=rollout,
            scorers=scorer_models(self.reward, shareable=False),
        )


class Grpo(Sampling):
    """GRPO (Shao et al. 2024, arXiv:2402.03300): advantages relative to the mean of a group."""

    impl = "training.methods.grpo:build"
    title = "Reinforcement learning (GRPO)"

    kind: Literal["grpo"]
    loss: Literal["dapo", "grpo", "dr_grpo"] = "dapo"
    """Normalization of the loss: over all tokens of a step (`dapo`), per answer (`grpo`), or by the
    maximum length (`dr_grpo`), which favors neither short nor long answers."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Divide advantages by the standard deviation of the group, of the step, or not at all."""


class Rloo(Sampling):
    """RLOO (Ahmadian et al. 2024, arXiv:2402.14740): a leave-one-out baseline per prompt."""

    impl = "training.methods.rloo:build"
    title = "Reinforcement learning (RLOO)"

    kind: Literal["rloo"]
    normalize_advantages: bool = False
    """Normalize advantages over the step to mean 0 and standard deviation 1."""
