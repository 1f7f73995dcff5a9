"""Lookup of the model that a user names: a run, a folder or a Hub id."""

from __future__ import annotations

from pathlib import Path

import torch

from evaluation.models.base import EvaluatedModel
from evaluation.models.gguf_model import find_gguf
from training.errors import ModelError
from training.run_folder import RunFolder


def load_model(source: str, batch_size: int) -> EvaluatedModel:
    """Return the model that a user names, on this machine's accelerator if it has one.

    Args:
        source: Run folder, folder of a model or an adapter, GGUF file, or Hub id.
        batch_size: Sequences per forward pass.

    Raises:
        ModelError: The model does not exist or cannot be read, or the run has none.
    """
    from evaluation.models.transformers_model import TransformersModel

    accelerator = torch.accelerator.current_accelerator()
    device = torch.device("cpu") if accelerator is None else accelerator
    return TransformersModel(source, model_folder(source), device, batch_size)


def model_folder(source: str) -> str:
    """Return the folder of the model that a source names, or its GGUF file.

    Args:
        source: Run folder, folder of a model or an adapter, GGUF file, or Hub id.

    Raises:
        ModelError: The run has no model, or the folder has several GGUF files.
    """
    run = RunFolder(Path(source))
    if run.state is None:
        return str(find_gguf(source) or source)
    if run.merged.is_dir():
        return str(run.merged)
    if run.model.is_dir():
        return str(run.model)
    raise ModelError(
        f"the run {source} is {run.state} and has no model. Name a run that is finished, or one "
        f"of its checkpoints"
    )
