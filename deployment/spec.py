"""Specification of a deployment: a YAML file, or options of the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from training.config.base import ConfigSection
from training.config.types import DurationS, Share
from training.errors import JobError, Problem
from validation.error_messages import explain
from validation.strict_yaml import load_yaml

TargetKind = Literal[
    "endpoint",
    "component",
    "async",
    "batch",
    "hyperpod",
    "bedrock-import",
    "bedrock-on-demand",
    "bedrock-throughput",
]
TARGET_KINDS: tuple[str, ...] = get_args(TargetKind)
_NAME = re.compile(r"[a-z0-9](-?[a-z0-9])*")
_MAX_NAME = 32
_LEAST_STEP = 0.1
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}(@\d+\.\d+\.\d+)?")


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise ValueError(
            f"up to {_MAX_NAME} lower-case letters, digits and single hyphens, such as support"
        )
    return name


def _checked_model(model: str) -> str:
    if not _MODEL.fullmatch(model):
        raise ValueError("name a version of a registered model, such as support@1.4.0")
    return model


DeploymentName = Annotated[str, AfterValidator(_checked_name)]


class Scaling(ConfigSection):
    """Number of copies that serve, which follows the load."""

    min: int = Field(1, ge=0)
    """Fewest copies; 0 removes the last one when no request comes (`to: component`, `async`)."""
    max: int = Field(1, ge=1)
    """Most copies."""
    concurrent_requests: float = Field(16.0, gt=0)
    """Requests in progress on a copy, which scaling aims at."""

    @model_validator(mode="after")
    def _ordered(self) -> Scaling:
        if self.min > self.max:
            raise ValueError(f"min: {self.min} is more than max: {self.max}")
        return self


class Rollout(ConfigSection):
    """Shift of the traffic to another version, and what ends it."""

    kind: Literal["canary", "linear", "all-at-once"] = "canary"
    """`canary`: a part first, then the rest; `linear`: in steps of equal size."""
    size: Share = Field(0.1, gt=0, le=0.5)
    """Part of the canary, or size of a linear step: at most half, of a step at least a tenth."""
    wait: DurationS = Field(default="5min", validate_default=True, ge=0, le=3600)
    """Time between the parts, in which the alarms are watched."""
    keep_old: DurationS = Field(default="5min", validate_default=True, ge=0, le=3600)
    """Time for which the old version stays after the shift."""
    max_error_rate: Share = Field(0.05, gt=0)
    """Part of the requests with an error of the server, above which the shift is rolled back."""
    max_latency: DurationS = Field(default="30s", validate_default=True, gt=0)
    """95th percentile of the time in the model above which the shift is rolled back."""

    @model_validator(mode="after")
    def _step(self) -> Rollout:
        if self.kind == "linear" and self.size < _LEAST_STEP:
            raise ValueError("size: a linear step is a tenth or more, such as 10%")
        return self


class GoldenPrompts(ConfigSection):
    """Prompts whose answers are compared before and after a shift."""

    file: Path
    """JSON Lines with `prompt` or `messages` and, as recorded by `temper record-golden`, the
    expected `tokens` and `log_probs`."""
    tolerance: float = Field(0.05, gt=0)
    """Largest difference of a token's log-probability."""
    min_agreement: Share = Field(1.0, gt=0)
    """Part of the prompts whose answers must agree."""


class End(ConfigSection):
    """When a deployment is removed: exactly one rule, or `until` and `idle_hours` together."""

    until: datetime | None = None
    """Time in UTC."""
    idle_hours: int | None = Field(None, ge=1, le=24 * 30)
    """Hours without a call."""
    forever: str | None = Field(None, min_length=3, max_length=200)
    """Reason why it is never removed."""

    @field_validator("until", mode="before")
    @classmethod
    def _utc(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise ValueError("write a time in UTC, such as 2026-12-31T18:00Z") from None
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return value

    @model_validator(mode="after")
    def _one_rule(self) -> End:
        if self.forever is not None and (self.until or self.idle_hours):
            raise ValueError("forever excludes until and idle_hours")
        if self.forever is None and not self.until and not self.idle_hours:
            raise ValueError(
                "a deployment needs an end: until, idle_hours, or forever with a reason"
            )
        return self


class Batch(ConfigSection):
    """Rows of one batch inference."""

    input: str = Field(pattern=r"^s3://[^/]+/.+")
    """Address of JSON Lines, one request per line."""
    output: str | None = Field(None, pattern=r"^s3://[^/]+/.+")
    """Folder of the answers; one in the environment's bucket of runs if omitted."""


class ProvisionedUnits(ConfigSection):
    """Model units of provisioned throughput, which are paid by the hour whether used or not."""

    units: int = Field(1, ge=1, le=100)
    """Number of model units."""
    unit_usd: float | None = Field(None, gt=0)
    """Price of a unit per hour, which only the AWS console shows; required with a commitment, whose
    total is shown before the confirmation."""
    commitment: Literal["OneMonth", "SixMonths"] | None = None
    """Term for which the units are paid, even if they are deleted; none unless it is asked for."""

    @model_validator(mode="after")
    def _priced(self) -> ProvisionedUnits:
        if self.commitment and self.unit_usd is None:
            raise ValueError(
                f"commitment: {self.commitment} needs unit_usd, so that its total can be shown"
            )
        return self


class DeploymentSpec(ConfigSection):
    """A model, where it is served, and until when."""

    model: Annotated[str, AfterValidator(_checked_model)]
    """Registered version, NAME@VERSION; NAME means the one in production."""
    to: TargetKind
    """Kind of the deployment."""
    name: DeploymentName
    """Name of the deployment, which stays when its version is swapped."""
    form: str | None = None
    """Form of the version that is served, such as `safetensors` or `gguf`."""
    instance: str | None = Field(None, pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9-]+$")
    """Instance type."""
    copies: int = Field(1, ge=1, le=100)
    """Instances, or copies of a component, without `scaling`."""
    scaling: Scaling | None = None
    rollout: Rollout = Rollout()
    golden: GoldenPrompts | None = None
    capture: Share | None = Field(None, gt=0)
    """Part of the requests and answers that is written to the environment's bucket of runs."""
    end: End
    adapter_of: DeploymentName | None = None
    """With `to: component`: name of the deployment of the base that the adapter is added to."""
    devices: int | None = Field(None, ge=0)
    """With `to: component`: accelerators of a copy; all of the instance if omitted."""
    image: str | None = None
    """Image with digest; the environment's serving image if omitted."""
    ami: str | None = None
    """Operating system of the instances (`InferenceAmiVersion`); by the image's CUDA if omitted."""
    chat: bool = True
    """True if conversations are asked, which a model without a chat template cannot answer."""
    settings: dict[str, str] = Field(default_factory=dict)
    """Settings of the server: variables after `TEMPER_SERVE_`, such as MAX_CONTEXT."""
    batch: Batch | None = None
    throughput: ProvisionedUnits | None = None
    """With `to: bedrock-throughput`: its model units; one without a commitment if omitted."""

    @property
    def copy_limits(self) -> tuple[int, int]:
        """Fewest and most instances or copies."""
        if self.scaling is None:
            return self.copies, self.copies
        return self.scaling.min, self.scaling.max

    @property
    def first_copies(self) -> int:
        """Instances or copies that are started; at least one, so that the deployment is checked."""
        return max(1, self.copy_limits[0])


def read_spec(
    file: Path | None,
    options: Mapping[str, Any],
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> DeploymentSpec:
    """Return the specification from a file, whose keys the options override.

    Args:
        file: YAML file, or None.
        options: Values by key; sections are dictionaries, and None is not given.
        defaults: Values of keys that the file does not have.

    Raises:
        JobError: It cannot be read, or has problems; names all of them.
    """
    source = "temper deploy-model" if file is None else str(file)
    values = _merged({**_merged({}, defaults), **_read_file(file)}, options)
    if "name" not in values and isinstance(values.get("model"), str):
        values["name"] = default_name(values["model"])
    try:
        return DeploymentSpec.model_validate(values)
    except ValidationError as error:
        raise JobError(source, explain(error, DeploymentSpec)) from None


def default_name(model: str) -> str:
    """Return the name of a deployment that was not given one: that of its model."""
    words = re.findall(r"[a-z0-9]+", model.partition("@")[0].lower())
    return "-".join(words)[:_MAX_NAME].rstrip("-")


def _read_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        content = load_yaml(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problem = Problem("", f"cannot be read: {' '.join(str(error).split())}")
        raise JobError(str(file), [problem]) from None
    if not isinstance(content, dict):
        raise JobError(str(file), [Problem("", "is not a mapping of keys to values")])
    return content


def _merged(values: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in options.items():
        if isinstance(value, Mapping):
            below = merged.get(key)
            inner = _merged(below if isinstance(below, Mapping) else {}, value)
            if inner:
                merged[key] = inner
        elif value is not None:
            merged[key] = value
    return merged
