"""`method: {kind: ppo}`: what is rewarded, how far the policy may stray, and what stops a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from training.config.base import ConfigSection
from training.config.types import PositiveFloat, PositiveInt, Share
from training.errors import Problem

if TYPE_CHECKING:
    from training.config.job import Job
    from training.config.online_rl import Ppo


# A null is what a job leaves open; this is what it switches off.
Off = Literal["none"]


class PpoRollout(ConfigSection):
    """How answers are sampled, and how many at once."""

    max_new_tokens: PositiveInt = 256
    """Longest answer, in tokens."""
    temperature: PositiveFloat = 1.0
    """Logits are divided by it, when answers are sampled and when they are learned from."""
    batch: PositiveInt | None = None
    """Prompts answered before learning goes on; `train.global_batch_size` when left out."""
    at_once: PositiveInt | None = None
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
    source: str | None = None
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
    """What stops a run that goes wrong; each is a mean over a rollout. `none` leaves a rule out."""

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
    falling_over: PositiveInt | Off = 40
    """Rollouts over which the reward fell although the policy strayed further."""


def validate_ppo(method: Ppo, job: Job) -> Iterator[Problem]:
    """Yield what PPO cannot go with in the rest of a job."""
    step, processes = job.train.global_batch_size, job.resources.processes or 1
    round_rows = method.rollout.batch or step
    if round_rows % step:
        yield Problem(
            "method.rollout.batch",
            f"must be a multiple of train.global_batch_size ({step}): a rollout is learned from "
            f"in steps of that many answers",
            str(round_rows),
        )
    elif round_rows % processes:
        yield Problem(
            "method.rollout.batch",
            f"must be a multiple of resources.processes ({processes}), who share the prompts",
            str(round_rows),
        )
    if job.sharding.fsdp != "none":
        yield Problem(
            "sharding.fsdp", "ppo samples under DeepSpeed only", job.sharding.fsdp, "Use zero"
        )
    if job.precision == "fp16":
        yield Problem(
            "precision",
            "ppo needs the range of bf16: ratios of small probabilities overflow",
            "fp16",
            "Use bf16 or fp32",
        )
    if job.adapter is not None and job.adapter.soft:
        yield Problem(
            "adapter.kind",
            "a soft prompt makes another model from the start, and ppo keeps a policy near to what "
            "it started from",
            job.adapter.kind,
            "Use lora, qlora or bottleneck, or none",
        )
    if dropout := getattr(job.adapter, "dropout", 0.0):
        yield Problem(
            "adapter.dropout",
            "ppo compares a policy with itself, which dropout makes another each time",
            f"{dropout:g}",
            "Leave it out",
        )
    if (bias := getattr(job.adapter, "bias", "none")) != "none":
        yield Problem(
            "adapter.bias",
            "the reference is the policy without its adapter, and biases are the backbone's own: "
            "it would move with the policy",
            bias,
            "Leave it out",
        )
    if method.critic.backbone == "shared" and job.adapter is None:
        yield Problem(
            "method.critic.backbone",
            "a shared backbone needs an adapter on the policy",
            "shared",
            "Add adapter: {kind: lora}, or use own",
        )
    if job.train.max_steps and method.critic.warmup_steps >= job.train.max_steps:
        yield Problem(
            "method.critic.warmup_steps",
            f"the policy would never learn in {job.train.max_steps} steps",
            str(method.critic.warmup_steps),
        )
