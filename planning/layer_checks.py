"""Checks of the layers that a job names against the shape of its model."""

from __future__ import annotations

from collections.abc import Iterator

from planning.model_shape import ModelShape
from training.config import Job
from training.config.adapter_base import LayerSelection
from training.errors import JobError, Problem


def check_layers(job: Job, shape: ModelShape) -> None:
    """Raise if a job names layers that its model does not have.

    Raises:
        JobError: Every such key.
    """
    if problems := list(_problems(job, shape)):
        raise JobError(job.name, problems)


def _problems(job: Job, shape: ModelShape) -> Iterator[Problem]:
    adapter, layers = job.adapter, shape.layers
    if isinstance(adapter, LayerSelection):
        chosen = adapter.layers_to_transform or ()
        if absent := sorted({layer for layer in chosen if layer >= layers}):
            yield Problem(
                "adapter.layers_to_transform",
                f"this model has no layer {', '.join(map(str, absent))}",
                str(list(chosen)),
                f"Choose from its {layers} layers, 0 to {layers - 1}",
            )
    if job.model.freeze.layers > layers:
        yield Problem(
            "model.freeze.layers",
            f"this model has {layers} layers",
            str(job.model.freeze.layers),
            f"Set at most {layers}",
        )
