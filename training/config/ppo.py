"""`method: {kind: ppo}`: what is rewarded, how far the policy may stray, and what stops a run."""

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

# A null is what a job leaves open; this is what it switches off.
Off = Literal["none"]


class PpoRollout(ConfigSection):
    """Settings of how answers are sampled for a rollout."""

    renamed: ClassVar[Mapping[str, str]] = {"at_once": "sampling_batch_size"}

    max_new_tokens: PositiveInt = 256
    """Longest answer, in tokens."""
    temperature: PositiveFloat = 1.0
    """Logits are divided by it, when answers are sampled and when they are learned from."""
    batch: PositiveInt | None = None
    """Prompts answered before learning goes on; `train.global_batch_size` when left out."""
    sampling_batch_size: PositiveInt | None = None
    """Answers sampled at once on each device; eight micro-batches when left out."""
    truncated: Literal["score", "drop"] = "score"
    """An answer cut at `max_new_tokens`: `score` learns from it as from any other, `drop` learns
    nothing from it."""
    truncated_penalty: float = Field(default=0.0, ge=0)
    """Taken off the score of an answer that was cut."""


class KlSettings(ConfigSection):
    """What straying from the reference costs.

    Each token pays `coefficient` for each nat; `adaptive` sets that price anew after each rollout
    so that an answer stays about `target` nats from the reference.
    """

    coefficient: float = Field(default=0.05, ge=0)
    """Reward lost for each nat: throughout, or at the start where `adaptive`."""
    adaptive: bool = False
    target: PositiveFloat | None = None
    """Nats an answer, where `adaptive`."""
    integral: float = Field(default=0.3, ge=0)
    """How strongly the price follows the error."""
    proportional: float = Field(default=1.5, ge=0)
    """How strongly the price follows a change of the error."""
    ceiling: PositiveFloat | None = None
    """Nats an answer at which the run stops; five times the target when left out and there is
    one."""

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
        """Nats an answer at which the run stops."""
        if self.ceiling is None and self.target is not None:
            return 5 * self.target
        return self.ceiling


class CriticSettings(ConfigSection):
    """What learns how good an answer so far will turn out."""

    backbone: Literal["auto", "own", "shared"] = "auto"
    """`own`: a second model. `shared`: a second adapter on the policy's. `auto`: shared where the
    policy has an adapter that allows it."""
    source: ModelLocation | None = None
    """A folder or Hub id it starts from, such as a reward model; what the policy starts from when
    left out."""
    learning_rate: PositiveFloat | None = None
    """Three times `train.learning_rate` when left out."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps at the start in which only the critic learns."""
    coefficient: PositiveFloat = 0.1
    """What its loss counts beside the policy's."""
    clip: PositiveFloat | Off = 0.2
    """How far a value may move from where it was at the rollout before it gains no more; `none`
    for any way."""

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
    """Answers shorter than this."""
    max_answer_tokens: PositiveFloat | Off = "none"
    """Answers longer than this."""
    min_ended: Share | Off = "none"
    """Share of answers that end by themselves, below which the policy no longer knows how to."""
    max_repetition: Share | Off = 0.8
    """Share of an answer's 4-grams that stood in it before."""
    min_entropy: PositiveFloat | Off = 0.01
    """Nats a token; below it every answer is the same."""
    reward_decline_window: PositiveInt | Off = 40
    """Rollouts over which the reward fell although the policy strayed further."""


class Ppo(MethodSection):
    """Reinforcement learning with a critic (Schulman et al. 2017, arXiv:1707.06347).

    A rollout answers a batch of prompts and scores the answers; what scored better than the critic
    expected becomes likelier, in `epochs` passes over the rollout. A step is an optimizer step.
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
    def warmup_steps(self) -> int:
        """Steps in which only the critic learns."""
        return self.critic.warmup_steps

    def rollout_schedule(self, global_batch_size: int) -> tuple[int, int] | None:
        """Return the prompts of a rollout, and how often it is gone through."""
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
