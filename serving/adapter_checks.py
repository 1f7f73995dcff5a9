"""Adapters that the engine of Transformers can add to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftConfig
from safetensors import SafetensorError, safe_open

from serving.lora_config import highest_rank
from training.errors import ModelError

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."


def check_config(name: str, folder: str, config: PeftConfig, max_rank: int | None) -> None:
    """Check the kind and the rank of an adapter.

    Args:
        name: Name of the adapter.
        folder: Its folder.
        config: Its configuration.
        max_rank: Highest rank that is served; None for any.

    Raises:
        ModelError: It cannot be served.
    """
    if config.is_prompt_learning:
        raise ModelError(
            f"adapter {name}: {folder} is a {config.peft_type.value.lower()}, "
            f"whose virtual tokens cannot share the cache. `temper answer` answers with it"
        )
    rank = highest_rank(config.to_dict())
    if max_rank is not None and rank > max_rank:
        raise ModelError(
            f"adapter {name}: {folder} has rank {rank}, and this server loads ranks up to "
            f"{max_rank}. Start it with a higher --max-lora-rank, or lower the rank: temper export "
            f"--format adapter-svd"
        )


def check_shapes(name: str, folder: str, config: PeftConfig, model: Any) -> None:
    """Check that the matrices of a LoRA adapter fit the layers of a model.

    PEFT only warns about layers that the model does not have.

    Args:
        name: Name of the adapter.
        folder: Its folder.
        config: Its configuration.
        model: The model.

    Raises:
        ModelError: They do not fit, or cannot be read.
    """
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise ModelError(f"adapter {name}: {folder} has no {WEIGHTS}")
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            shapes = {name: file.get_slice(name).get_shape() for name in names}
    except SafetensorError as error:
        raise ModelError(f"adapter {name}: {path} cannot be read: {error}") from None
    for key, shape in shapes.items():
        if problem := _shape_problem(key, shape, base):
            raise ModelError(
                f"adapter {name}: {folder} was trained on another model "
                f"({config.base_model_name_or_path}): {problem}. Serve it with that one"
            )


def _shape_problem(key: str, shape: list[int], base: Any) -> str:
    """Return why a matrix does not fit its layer; nothing if it does or is of another kind."""
    layer, _, matrix = key.removeprefix(_PREFIX).partition(".lora_")
    side = {"A.weight": 1, "B.weight": 0}.get(matrix)
    if side is None or not key.startswith(_PREFIX):
        return ""
    try:
        module = base.get_submodule(layer)
    except AttributeError:
        return f"this one has no layer {layer}"
    weight = getattr(module, "weight", None)
    if weight is None or weight.ndim != 2 or shape[side] in weight.shape:
        return ""
    return f"{layer} is {list(weight.shape)} here, and lora_{matrix} is {list(shape)}"
