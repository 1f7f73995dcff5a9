"""A whole job: one run, or several in a row that each start from the last one's model."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

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


class Job(ConfigSection):
    """One run, from a model and data to a trained model."""

    name: Name
    model: Model
    data: Data
    method: Method
    adapter: Adapter | None = None
    """Left out, every weight is trained."""
    train: TrainSettings
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
        return with_learning_rate(_composed(values))


class Stage(Job):
    """One stage of a pipeline; its model, when left out, is the one of the stage before."""

    model: Model = Model()


class Pipeline(ConfigSection):
    """Several runs in a row.

    `stage:NAME` names an earlier stage: in `data` the rows it wrote, elsewhere its model.
    """

    name: Name
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]


def _composed(values: Any) -> Any:
    """Read a section `compose` as the adapter it is."""
    if not isinstance(values, dict) or "compose" not in values:
        return values
    if values.get("adapter") is not None:
        raise ValueError("give compose or adapter, not both: a composition is an adapter")
    rest = {key: value for key, value in values.items() if key != "compose"}
    given = values["compose"]
    return {**rest, "adapter": {"kind": "compose", **given} if isinstance(given, dict) else given}


def with_learning_rate(values: Any) -> Any:
    """Fill in the learning rate that suits what is trained, where the job leaves it open."""
    if not isinstance(values, dict):
        return values
    train = values.get("train", {})
    if isinstance(train, dict) and "learning_rate" not in train:
        default = 2e-5 if values.get("adapter") is None else 2e-4
        return {**values, "train": {**train, "learning_rate": default}}
    return values
