"""Adapters of a model whose vocabulary was extended, and adapters that train single tokens."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import PreTrainedModel

from training.errors import ModelError
from training.models.safetensors_io import WeightFiles

_FULL = (".weight", ".base_layer.weight", ".modules_to_save.weight")
_PREFIX = "base_model.model."


def adapter_rows(adapter: Path) -> dict[str, int]:
    """Return the rows of each matrix that an adapter's files hold in full, by module name."""
    if not any(adapter.glob("*.safetensors")):
        return {}
    rows = {}
    for name, info in WeightFiles(adapter).tensors.items():
        for ending in _FULL:
            module = name.removesuffix(ending).removeprefix(_PREFIX)
            if name.endswith(ending) and ".lora_" not in module and len(info.shape) == 2:
                rows[module.removesuffix(".modules_to_save").removesuffix(".base_layer")] = (
                    info.shape[0]
                )
    return rows


def vocabulary_size(base: Path) -> int:
    """Return the rows of the embeddings that the configuration of a model declares."""
    config = json.loads((base / "config.json").read_text())
    return int(config.get("vocab_size") or config["text_config"]["vocab_size"])


def needs_complete_base(adapter: Path, base: Path) -> bool:
    """Return whether an adapter can be loaded only onto the complete base in memory.

    It cannot be loaded onto one layer at a time if it extends the vocabulary or trains the rows
    of single tokens.
    """
    config = json.loads((adapter / "adapter_config.json").read_text())
    if config.get("trainable_token_indices") or config.get("peft_type") == "TRAINABLE_TOKENS":
        return True
    base_rows = vocabulary_size(base)
    ends = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out")
    return any(
        rows != base_rows and module.rpartition(".")[2] in ends
        for module, rows in adapter_rows(adapter).items()
    )


def resize_for_adapter(model: PreTrainedModel, adapter: Path) -> None:
    """Resize the embeddings of a base to the vocabulary that its adapter was trained with.

    This is what a script that adds tokens does before it creates the adapter: the rows of the new
    tokens are in the adapter's files.

    Args:
        model: The base, changed in place.
        adapter: Folder of the adapter.

    Raises:
        ModelError: The adapter lacks the new rows of one of the two embeddings.
    """
    stored = adapter_rows(adapter)
    names = {id(module): name for name, module in model.named_modules()}
    ends = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
    modules = {end: names[id(module)] for end, module in ends.items() if module is not None}
    rows = {stored[name] for name in modules.values() if name in stored}
    before = ends["input"].weight.shape[0]
    if not rows or rows == {before}:
        return
    tied = ends["output"] is not None and ends["output"].weight is ends["input"].weight
    config = json.loads((adapter / "adapter_config.json").read_text())
    copies = set(config.get("modules_to_save") or ())
    # A tied tensor is complete if the adapter stores it itself; a copy of one end is not it.
    shared = tied and any(
        n in stored and n.rpartition(".")[2] not in copies for n in modules.values()
    )
    lacking = [] if shared else [name for name in modules.values() if name not in stored]
    if len(rows) > 1 or lacking:
        raise ModelError(
            f"the adapter in {adapter} was trained with {' or '.join(map(str, sorted(rows)))} "
            f"tokens and its base has {before}, but the adapter does not hold the new rows of "
            f"{' and '.join(lacking) or 'both embeddings'}. Save it again with "
            f"save_embedding_layers=True, or resize the base as in training and name that in "
            f"base_model_name_or_path"
        )
    model.resize_token_embeddings(rows.pop(), mean_resizing=False)
