"""Pipeline file: steps of a retraining, the gates between them, and its limits."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from evaluation.config.gates import MetricGate
from evaluation.promotion import PromotionConditions
from training.config.base import ConfigSection
from training.config.types import DurationS, MoneyUsd, PositiveInt

_NAME = r"^[a-z][a-z0-9-]*$"
StepName = Annotated[str, Field(pattern=_NAME, max_length=32)]
_ONE = {"type": "string", "pattern": _NAME, "maxLength": 32}
OneOrMoreSteps = Annotated[
    tuple[StepName, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [_ONE, {"type": "array", "items": _ONE}]}),
]
"""Names of steps; one needs no list."""
PRODUCTION = "production"
"""Value of `against` that means the version in production."""
NO_MODEL = "none"
"""Value of `against` that means no other model."""


class PipelineStep(ConfigSection):
    """Section of one kind of step."""

    gives: ClassVar[str]
    """Kind of the step's output, which decides which steps can use it."""

    gate: OneOrMoreSteps = ()
    """Gates that must be open for this step to run."""

    def uses(self) -> dict[str, tuple[str, str]]:
        """Return the steps that this one reads: key -> name of the step, kind of its output."""
        return {f"gate.{index}": (name, "decision") for index, name in enumerate(self.gate)}


class PrepareStep(PipelineStep):
    """Step that prepares data, as `temper prepare` does."""

    gives: ClassVar[str] = "data"

    kind: Literal["prepare"]
    job: str
    """Job file of the preparation."""
    set: dict[str, Any] = Field(default={})
    """Keys of the job with other values."""
    instance: str = "ml.m5.2xlarge"
    """Instance type in AWS."""
    volume_gib: PositiveInt = 100
    """Disk in AWS, which holds the sources twice."""


class TrainStep(PipelineStep):
    """Step that trains a model, as `temper train` does."""

    gives: ClassVar[str] = "model"

    kind: Literal["train"]
    job: str
    """Job file."""
    set: dict[str, Any] = Field(default={})
    """Keys of the job with other values."""
    cloud: dict[str, Any] = Field(default={})
    """Keys of the job with other values in AWS: `{resources.instance: ml.g5.xlarge}`."""
    data: dict[str, StepName] = Field(default={})
    """Key of the job -> step whose prepared data it gets: `{data.train: prepare}`."""
    model: dict[str, StepName] = Field(default={})
    """Key of the job -> step whose model it gets: `{model.source: pretrain}`."""

    def uses(self) -> dict[str, tuple[str, str]]:
        """Return the steps that this one reads."""
        data = {f"data.{key}": (name, "data") for key, name in self.data.items()}
        models = {f"model.{key}": (name, "model") for key, name in self.model.items()}
        return {**super().uses(), **data, **models}


class EvaluateStep(PipelineStep):
    """Step that evaluates a model on a suite, paired with the model that it would replace."""

    gives: ClassVar[str] = "evaluation"

    kind: Literal["evaluate"]
    model: StepName
    """Step whose model is evaluated, the challenger."""
    suite: str
    """Suite file, or the name of a suite that comes with Temper."""
    against: str = PRODUCTION
    """`production` for the registered version in production, a model, or `none`. Until a version is
    in production there is nothing to compare with."""
    instance: str = "ml.g5.xlarge"
    """Instance type in AWS."""
    volume_gib: PositiveInt = 100
    """Disk in AWS, which holds both models."""

    @property
    def compares(self) -> bool:
        """True if the model is compared with another."""
        return self.against != NO_MODEL

    def uses(self) -> dict[str, tuple[str, str]]:
        """Return the steps that this one reads."""
        return {**super().uses(), "model": (self.model, "model")}


class GateStep(PipelineStep):
    """Step that decides whether the steps that name this gate may run."""

    gives: ClassVar[str] = "decision"

    kind: Literal["gate"]
    evaluation: StepName
    """Step of the evaluation that decides."""
    limits: tuple[MetricGate, ...] = ()
    """Limits that the challenger must meet."""
    better: tuple[str, ...] = ()
    """Metrics in which the challenger must be significantly better than the other model:
    `docs.bits_per_byte`. They are met while no version is in production."""
    level: float = Field(default=0.05, gt=0, lt=1)
    """Significance level of `better`, after Holm's correction over all metrics of the suite."""
    otherwise: Literal["end", "fail"] = "end"
    """`end`: a closed gate is an ordinary result. `fail`: it is an error."""

    @property
    def conditions(self) -> PromotionConditions:
        """Conditions of the gate."""
        return PromotionConditions(limits=self.limits, better=self.better, level=self.level)

    def uses(self) -> dict[str, tuple[str, str]]:
        """Return the steps that this one reads."""
        return {**super().uses(), "evaluation": (self.evaluation, "evaluation")}


class RegisterStep(PipelineStep):
    """Step that registers a model, as `temper register` and `temper promote` do."""

    gives: ClassVar[str] = "version"

    kind: Literal["register"]
    model: StepName
    """Step whose model is registered."""
    stage: Literal["candidate", "staging", "production"] = "production"
    """Stage of the version. In production it is the champion of the next run."""

    def uses(self) -> dict[str, tuple[str, str]]:
        """Return the steps that this one reads."""
        return {**super().uses(), "model": (self.model, "model")}


class DeployStep(PipelineStep):
    """Step that serves a version behind a name, as `temper deploy-model` and `temper swap` do.

    A version that is rolled back loses production to the version before it.
    """

    gives: ClassVar[str] = "deployment"

    kind: Literal["deploy"]
    version: StepName
    """Step that registered the version."""
    file: str | None = None
    """Specification of the deployment."""
    to: str | None = None
    """Kind of the deployment, if there is no file."""
    name: str | None = None
    """Name of the deployment; that of the file, or of the model, if not set."""
    instance: str | None = None
    """Instance type."""
    rollout: Literal["canary", "linear", "all-at-once"] | None = None
    """Shift of the traffic to a new version."""
    chat: bool | None = None
    """Conversations, or texts only."""
    idle_hours: PositiveInt | None = None
    """Hours without a call after which the deployment is removed."""
    forever: str | None = Field(default=None, min_length=3, max_length=200)
    """Reason why it is never removed."""

    def uses(self) -> dict[str, tuple[str, str]]:
        """Return the steps that this one reads."""
        return {**super().uses(), "version": (self.version, "version")}


AnyStep = Annotated[
    PrepareStep | TrainStep | EvaluateStep | GateStep | RegisterStep | DeployStep,
    Field(discriminator="kind"),
]


class PipelineLimits(ConfigSection):
    """Limits of runs that train."""

    cooldown: DurationS = Field(default="1h", validate_default=True, ge=0)
    """Least time between the starts of two trainings. A run that failed can be repeated at once."""
    max_monthly_cost: MoneyUsd | None = None
    """Most US dollars of trainings in a calendar month, by the prices of the plan."""
    max_monthly_runs: PositiveInt | None = None
    """Most trainings in a calendar month."""


class PipelineSpec(ConfigSection):
    """Steps of a retraining."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9](-?[a-z0-9])*$", max_length=32)]
    """Name of the pipeline, and of the registered model."""
    limits: PipelineLimits = PipelineLimits()
    steps: Annotated[dict[StepName, AnyStep], Field(min_length=1)]
    """Steps by name. They run in the order of what they use."""
