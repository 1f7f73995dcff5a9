"""Lookup of the model that a user names: a run, a folder or a Hub id."""

from __future__ import annotations

from pathlib import Path

import torch

from evaluation.models.base import EvaluatedModel
from training.errors import ModelError
from training.run_folder import RunFolder


def load_model(source: str, batch_size: int) -> EvaluatedModel:
    """Return the model that a user names, on this machine's accelerator if it has one.

    Args:
        source: Run folder, folder of a model or an adapter, or Hub id.
        batch_size: Sequences per forward pass.

    Raises:
        ModelError: The model does not exist or cannot be read, or the run has none.
    """
    from evaluation.models.transformers_model import TransformersModel

    return TransformersModel(source, model_folder(source), default_device(), batch_size)


def default_device() -> torch.device:
    """Return this machine's accelerator, or the CPU."""
    accelerator = torch.accelerator.current_accelerator()
    return torch.device("cpu") if accelerator is None else accelerator


def model_folder(source: str) -> str:
    """Return the folder of the model that a source names.

    Args:
        source: Run folder, folder of a model or an adapter, or Hub id.

    Raises:
        ModelError: The run has no model.
    """
    run = RunFolder(Path(source))
    if run.state is None:
        return source
    if run.merged.is_dir():
        return str(run.merged)
    if run.model.is_dir():
        return str(run.model)
    raise ModelError(
        f"the run {source} is {run.state} and has no model. Name a run that is finished, or one "
        f"of its checkpoints"
    )
