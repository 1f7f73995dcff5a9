"""A complete job: one run, or a pipeline of runs that each start from the previous model."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from training.config.adapters import (
    AdaLora,
    Bottleneck,
    Ia3,
    Lora,
    PrefixTuning,
    PromptTuning,
    PTuning,
    Qlora,
)
from training.config.base import ConfigSection
from training.config.composition import Compose
from training.config.data import Data
from training.config.methods import Method
from training.config.model import Model
from training.config.runtime import Checkpoint, Evaluate, Guards, Resources, Sharding, Tracking
from training.config.train import TrainSettings
from training.config.types import NEVER, Every, parse_every_or_none

Adapter = Annotated[
    Lora | Qlora | AdaLora | PromptTuning | PTuning | PrefixTuning | Bottleneck | Ia3 | Compose,
    Field(discriminator="kind"),
]
Precision = Literal["fp32", "fp16", "bf16"]

# CreateTrainingJob: ^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}
_NAME = re.compile(r"[a-zA-Z0-9](?:-*[a-zA-Z0-9])*")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value) or len(value) > 63:
        raise ValueError(
            "1 to 63 letters, digits and inner hyphens (it becomes the SageMaker job name)"
        )
    return value


Name = Annotated[str, AfterValidator(_name)]


def _describe_input(schema: dict[str, Any]) -> None:
    """Change a job's JSON schema to what a file may contain, before defaults are filled in."""
    schema["required"] = [key for key in schema["required"] if key != "train"]
    schema["properties"]["compose"] = {
        "type": "object",
        "description": "Composition of trained adapters, in place of `adapter`.",
    }


ExportFormatName = Literal["transformers-4"]
EXPORT_FORMATS: tuple[str, ...] = get_args(ExportFormatName)
"""Formats that a run can write at its end, in addition to its model."""


class Job(ConfigSection):
    """One run, from a model and data to a trained model."""

    model_config = ConfigDict(json_schema_extra=_describe_input)

    name: Name
    model: Model
    data: Data
    method: Method
    adapter: Adapter | None = None
    """Adapter to train; if not set, all weights are trained."""
    train: TrainSettings
    export: Literal["merged", "adapter", "both"] | None = None
    """Model that is published after training with an adapter: `merged` into its base, the `adapter`
    alone (the default), or `both`. A target uploads it; see docs/export.md."""
    export_formats: tuple[ExportFormatName, ...] = ()
    """Further forms of the model that are written, verified and published at the end:
    `transformers-4` is what Amazon Bedrock imports."""
    save_dtype: Literal["auto", "fp32", "bf16", "fp16"] | None = None
    """Precision of the saved weights of a model that is trained in full; `auto` is that of the
    base's files. If not set, that of the training: fp32, or under DeepSpeed that of the job."""
    precision: Precision = "fp32"
    sharding: Sharding = Sharding()
    checkpoint: Checkpoint = Checkpoint()
    evaluate: Evaluate = Evaluate()
    guards: Guards = Guards()
    tracking: Tracking = Tracking()
    resources: Resources = Resources()

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, values: Any) -> Any:
        return with_evaluation_interval(with_learning_rate(_composed(values)))


class Stage(Job):
    """Stage of a pipeline; its model, if not set, is that of the previous stage."""

    model: Model = Model()


class Pipeline(ConfigSection):
    """Several runs, one after another.

    `stage:NAME` refers to an earlier stage: to the rows it wrote in a key for data, and to its
    model elsewhere.
    """

    name: Name
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]


def _composed(values: Any) -> Any:
    """Return the job with its section `compose` written as an adapter.

    Raises:
        ValueError: The job has both sections.
    """
    if not isinstance(values, dict) or "compose" not in values:
        return values
    if values.get("adapter") is not None:
        raise ValueError("give compose or adapter, not both: a composition is an adapter")
    rest = {key: value for key, value in values.items() if key != "compose"}
    section = values["compose"]
    # A section that is no mapping is passed on, so that pydantic reports its type.
    adapter = {"kind": "compose", **section} if isinstance(section, dict) else section
    return {**rest, "adapter": adapter}


def with_learning_rate(values: Any) -> Any:
    """Return the job with the default learning rate of full or adapter training, if it has none."""
    if not isinstance(values, dict):
        return values
    train = values.get("train", {})
    if isinstance(train, dict) and "learning_rate" not in train:
        default = 2e-5 if values.get("adapter") is None else 2e-4
        return {**values, "train": {**train, "learning_rate": default}}
    return values


def with_evaluation_interval(values: Any) -> Any:
    """Return the job with `evaluate.every` set to the logging interval, if only that is set.

    The default interval of logs, one step, is no interval for evaluations.
    """
    if not isinstance(values, dict):
        return values
    train, data, evaluate = (values.get(key) or {} for key in ("train", "data", "evaluate"))
    if not all(isinstance(section, dict) for section in (train, data, evaluate)):
        return values
    if "every" in evaluate or "validation" not in data or "log_every" not in train:
        return values
    try:
        interval = parse_every_or_none(train["log_every"])
    except ValueError:
        return values  # reported for `train.log_every`
    if interval in (NEVER, Every(1, "steps")):
        return values
    return {**values, "evaluate": {**evaluate, "every": str(interval)}}
