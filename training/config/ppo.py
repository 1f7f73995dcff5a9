"""Section `method: {kind: ppo}`: rollouts, KL penalty, critic and stop rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from training.config.base import ConfigSection
from training.config.locations import ModelLocation
from training.config.method_base import MethodSection
from training.config.metric_labels import ROLLOUTS
from training.config.rewards import Rewards, scorer_models
from training.config.step_profile import (
    CriticKind,
    RolloutProfile,
    StepProfile,
    StepSpec,
    reference_model,
)
from training.config.types import PositiveFloat, PositiveInt, Share

# `null` in a job leaves a key at its default; `none` switches a rule off.
Off = Literal["none"]


class PpoRollout(ConfigSection):
    """Settings of how answers are sampled for a rollout."""

    renamed: ClassVar[Mapping[str, str]] = {"at_once": "sampling_batch_size"}

    max_new_tokens: PositiveInt = 256
    """Longest answer, in tokens."""
    temperature: PositiveFloat = 1.0
    """Divisor of the logits, both when answers are sampled and when they are trained on."""
    batch: PositiveInt | None = None
    """Prompts per rollout; `train.global_batch_size` if not set."""
    sampling_batch_size: PositiveInt | None = None
    """Answers sampled at the same time on each device; eight micro-batches if not set."""
    truncated: Literal["score", "drop"] = "score"
    """Handling of an answer truncated at `max_new_tokens`: `score` trains on it as on any other,
    `drop` leaves it out of the loss."""
    truncated_penalty: float = Field(default=0.0, ge=0)
    """Penalty subtracted from the score of a truncated answer."""


class KlSettings(ConfigSection):
    """Settings of the penalty for the KL divergence from the reference.

    Each token loses `coefficient` per nat; `adaptive` adjusts the coefficient after each rollout so
    that an answer stays about `target` nats from the reference (arXiv:1909.08593).
    """

    coefficient: float = Field(default=0.05, ge=0)
    """Penalty per nat: constant, or the initial value if `adaptive`."""
    adaptive: bool = False
    target: PositiveFloat | None = None
    """Target divergence in nats per answer, if `adaptive`."""
    integral: float = Field(default=0.3, ge=0)
    """Integral gain of the controller."""
    proportional: float = Field(default=1.5, ge=0)
    """Proportional gain of the controller."""
    ceiling: PositiveFloat | None = None
    """Divergence in nats per answer at which the run stops; if not set, five times the target, if
    there is one."""

    @model_validator(mode="after")
    def _complete(self) -> KlSettings:
        if self.adaptive and self.target is None:
            raise ValueError("adaptive needs a target, in nats an answer, such as target: 6.0")
        if self.adaptive and not self.coefficient:
            raise ValueError("adaptive multiplies the coefficient, which must be above zero")
        if self.ceiling and self.target and self.ceiling <= self.target:
            raise ValueError(f"the ceiling {self.ceiling:g} must lie above target {self.target:g}")
        return self

    @property
    def stops_at(self) -> float | None:
        """Divergence in nats per answer at which the run stops; None for no limit."""
        if self.ceiling is None and self.target is not None:
            return 5 * self.target
        return self.ceiling


class CriticSettings(ConfigSection):
    """Settings of the value model."""

    backbone: Literal["auto", "own", "shared"] = "auto"
    """`own`: a second model. `shared`: a second adapter on the base of the policy. `auto`: shared
    if the adapter of the policy allows it."""
    source: ModelLocation | None = None
    """Folder or Hub id of its initial weights, such as a reward model; those of the policy if not
    set."""
    learning_rate: PositiveFloat | None = None
    """Learning rate of the critic; three times `train.learning_rate` if not set."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps at the start in which only the critic is trained."""
    coefficient: PositiveFloat = 0.1
    """Weight of the value loss relative to the policy loss."""
    clip: PositiveFloat | Off = 0.2
    """Clip range of a value around its value at the rollout; `none` for no clipping."""

    @model_validator(mode="before")
    @classmethod
    def _from(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("source") and values.get("backbone") == "shared":
            raise ValueError("a shared backbone starts from the policy: leave source out")
        return values


class StopRules(ConfigSection):
    """Rules that stop a run that diverges; each compares a mean over one rollout with a limit.

    `none` switches a rule off.
    """

    renamed: ClassVar[Mapping[str, str]] = {"falling_over": "reward_decline_window"}

    min_answer_tokens: PositiveFloat | Off = 2.0
    """Smallest mean length of an answer, in tokens."""
    max_answer_tokens: PositiveFloat | Off = "none"
    """Largest mean length of an answer, in tokens."""
    min_ended: Share | Off = "none"
    """Smallest share of answers that end with an end-of-sequence token."""
    max_repetition: Share | Off = 0.8
    """Largest share of repeated 4-grams in an answer."""
    min_entropy: PositiveFloat | Off = 0.01
    """Smallest entropy in nats per token; below it all answers are the same."""
    reward_decline_window: PositiveInt | Off = 40
    """Number of rollouts over which the reward falls while the divergence rises."""


class Ppo(MethodSection):
    """PPO: reinforcement learning with a critic (Schulman et al. 2017, arXiv:1707.06347).

    A rollout samples and scores answers to a batch of prompts. Answers that score better than the
    critic predicted become more likely, in `epochs` passes over the rollout. A step is an optimizer
    step.
    """

    impl = "training.methods.ppo:build"
    rows = "prompt"
    title = "Reinforcement learning (PPO)"
    metrics = ROLLOUTS

    kind: Literal["ppo"]
    reward: Rewards
    rollout: PpoRollout = PpoRollout()
    kl: KlSettings = KlSettings()
    epochs: PositiveInt = 2
    """Number of epochs over each rollout."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """Lower clip range of the probability ratio: it is clipped below 1 - clip_low."""
    clip_high: PositiveFloat = 0.2
    """Upper clip range of the probability ratio: it is clipped above 1 + clip_high."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """Discount factor per token."""
    lam: float = Field(default=0.95, ge=0, le=1)
    """λ of generalized advantage estimation (arXiv:1506.02438): 0 uses the critic alone, 1 only the
    observed rewards."""
    critic: CriticSettings = CriticSettings()
    stop: StopRules = StopRules()

    @property
    def max_new_tokens(self) -> int:
        """Longest answer sampled from each prompt while training."""
        return self.rollout.max_new_tokens

    @property
    def warmup_steps(self) -> int:
        """Steps in which only the critic is trained."""
        return self.critic.warmup_steps

    def rollout_schedule(self, global_batch_size: int) -> tuple[int, int] | None:
        """Return the number of prompts per rollout and of epochs over it."""
        return self.rollout.batch or global_batch_size, self.epochs

    def step_profile(self, job: Any, step: StepSpec) -> StepProfile:
        """Return the costs of a step in which policy and critic are trained together.

        Args:
            job: The job that the method is part of.
            step: Size of a step on one device.
        """
        batch = self.rollout.sampling_batch_size or 8 * step.micro_batch_size
        answers = min(step.rows_per_device, batch)
        return StepProfile(
            head="answers",
            frozen=reference_model(job),
            rollout=RolloutProfile(answers, step.max_prompt_tokens, self.rollout.max_new_tokens),
            critic=self._critic_kind(job),
            scorers=scorer_models(self.reward, shareable=True),
        )

    def _critic_kind(self, job: Any) -> CriticKind:
        """Return where the critic's weights are; `auto` shares the backbone if it is possible."""
        if self.critic.backbone != "auto":
            return self.critic.backbone
        has_layer_adapter = job.adapter is not None and not job.adapter.soft
        return "shared" if has_layer_adapter and self.critic.source is None else "own"
