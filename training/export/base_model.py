"""Base of an adapter that is exported: found, and compared with that of the training."""

from __future__ import annotations

from pathlib import Path

from peft import PeftConfig

from training.config.adapter_files import base_problem, is_moved
from training.errors import ModelError
from training.models.base_digest import check_base_digest
from training.models.locate import explain_moved_base
from training.models.safetensors_io import model_folder


def base_of(model: Path, base_model: str | None = None) -> Path:
    """Return the folder of the model that an adapter was trained on.

    Args:
        model: Folder of the adapter.
        base_model: Folder or Hub id of its base; None for the one that it records.

    Raises:
        ModelError: It is not available, or its weights or shapes are not those of the training.
    """
    config, revision = PeftConfig.from_pretrained(str(model)), None
    if base_model is None:
        base_model, revision = str(config.base_model_name_or_path or ""), config.revision
        if is_moved(base_model):
            raise ModelError(explain_moved_base(str(model), base_model))
    base = model_folder(base_model, revision)
    if (problem := base_problem(model, base)) is not None:
        raise ModelError(problem)
    check_base_digest(model, base)
    return base
