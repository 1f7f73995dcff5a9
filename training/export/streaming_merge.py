"""Streaming merge: an adapter is merged into its base model with one layer in memory at a time.

PEFT merges each layer by itself, so neither the base nor the result is ever complete in memory. The
base of a QLoRA adapter is read in its original precision, not in 4 bits.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from peft import PeftConfig, PeftType, inject_adapter_in_model, set_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from torch import nn
from transformers import PreTrainedModel

from training.errors import ModelError
from training.models.added_tokens import needs_complete_base
from training.models.layer_streaming import empty_model, is_streamable, tied_names
from training.models.merge import merged, why_not_mergeable
from training.models.safetensors_io import WeightFiles, write_tensors

_PEFT_PREFIX = "base_model.model."
_CONFIG_FILES = ("config.json", "generation_config.json")
_INDEX = "model.safetensors.index.json"


def streaming_merge(adapter: Path, base: Path, target: Path) -> None:
    """Write the base model with the adapter merged to the folder `target`, file by file.

    Each tensor keeps its dtype; the update is added in fp32. If the base's files name or split its
    weights differently from the model (mixtures of experts, GPT-NeoX), or the adapter changes
    parameters that are no linear layers, it is merged in memory.

    Args:
        adapter: Folder of the adapter.
        base: Folder of the base model.
        target: Folder to create; weights and configuration are written to it.

    Raises:
        ModelError: The adapter cannot be merged, or was trained on another base.
    """
    config = PeftConfig.from_pretrained(str(adapter))
    check_mergeable(config, adapter)
    # LoRA on parameters (experts) is nested in ways that a single layer does not show.
    on_parameters = bool(getattr(config, "target_parameters", None))
    if on_parameters or not is_streamable(base) or needs_complete_base(adapter, base):
        _merge_in_memory(adapter, base, target)
        return
    model, source = empty_model(base), WeightFiles(base)
    update = _LayerUpdate(config, WeightFiles(adapter), model)
    update.check(source, adapter, base)
    target.mkdir(parents=True)
    untied = update.untied(tied_names(model))
    for path, names in source.files.items():
        kinds = {name: source.tensors[name] for name in names}
        last = path == list(source.files)[-1]
        kinds |= {name: source.tensors[tied] for name, tied in untied.items() if last}
        write_tensors(
            target / path.name,
            kinds,
            lambda name: update.applied(name, untied.get(name, name), source),
        )
    _write_config(base, target, untied, last_file=list(source.files)[-1].name)


def _merge_in_memory(adapter: Path, base: Path, target: Path) -> None:
    """Merge with both models in memory; Transformers chooses the names of the tensors."""
    dtype = next(iter(WeightFiles(base).tensors.values())).dtype
    model = merged(str(adapter), dtype=dtype, attention=None, base=str(base))
    model.save_pretrained(target)


def check_mergeable(config: PeftConfig, adapter: Path) -> None:
    """Raise if an adapter cannot be merged into weights.

    Raises:
        ModelError: The reason.
    """
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if (reason := why_not_mergeable(kind, getattr(config, "linear", True))) is not None:
        raise ModelError(
            f"the adapter in {adapter} ({kind.lower()}) cannot be merged into weights: {reason}. "
            f"Export it with FORMAT=adapter or archive-apart, and load it with its base"
        )


class _LayerUpdate:
    """Update that an adapter applies to the tensors of its base.

    Args:
        config: Configuration of the adapter.
        weights: Weights of the adapter.
        model: The base model without weights.
    """

    def __init__(self, config: PeftConfig, weights: WeightFiles, model: PreTrainedModel):
        self.config = config
        self.weights = weights
        self.modules = dict(model.named_modules())
        prefix = "." + PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_type]
        self.parts: dict[str, list[str]] = {}
        self.replaced: dict[str, str] = {}
        for name in weights.tensors:
            if name.endswith(".base_layer.weight"):
                # PEFT also stores the embedding that an adapter targets; the base has it.
                continue
            inside = name.removeprefix(_PEFT_PREFIX).replace(".base_layer.", ".")
            if prefix in inside:
                self.parts.setdefault(inside.split(prefix)[0], []).append(name)
            else:
                self.replaced[inside] = name

    def check(self, source: WeightFiles, adapter: Path, base: Path) -> None:
        """Raise if the adapter changes a tensor that the base does not have.

        Args:
            source: Weights of the base.
            adapter: Folder of the adapter, for messages.
            base: Folder of the base, for messages.

        Raises:
            ModelError: The first such tensor.
        """
        for path in self.parts:
            if path not in self.modules:
                raise ModelError(
                    f"the adapter in {adapter} was trained on another base than {base}: it changes "
                    f"{path}, which that model does not have"
                )
        for name in self.replaced:
            path = name.rpartition(".")[0]
            if path not in self.modules:
                raise ModelError(f"the adapter in {adapter} replaces {name}, which {base} lacks")
            kind = source.tensors.get(name)
            if kind is not None and kind.shape != self.weights.tensors[self.replaced[name]].shape:
                raise ModelError(
                    f"the adapter in {adapter} was trained on another base than {base}: its {name} "
                    f"has shape {list(self.weights.tensors[self.replaced[name]].shape)}, not "
                    f"{list(kind.shape)}"
                )

    def untied(self, tied: dict[str, str]) -> dict[str, str]:
        """Return tied tensors of which the update changes one only, with their source.

        After the merge they differ, so the result must store both.
        """
        changed = {f"{path}.weight" for path in self.parts} | set(self.replaced)
        return {name: source for name, source in tied.items() if {name, source} & changed}

    def applied(self, name: str, stored: str, source: WeightFiles) -> torch.Tensor:
        """Return a tensor with the update added.

        Args:
            name: Name in the result.
            stored: Name in `source`.
            source: Weights of the base.
        """
        tensor = source.read(stored)
        if name in self.replaced:
            return self.weights.read(self.replaced[name]).to(tensor.dtype)
        path, _, key = name.rpartition(".")
        if path not in self.parts or key not in ("weight", "bias"):
            return tensor
        if key == "weight":
            return self._merge_layer(path, tensor, None)[0].to(tensor.dtype)
        if self.config.peft_type != PeftType.IA3:
            return tensor
        # IA3 scales the layer's output, and with it the bias.
        bias = self._merge_layer(path, source.read(f"{path}.weight"), tensor)[1]
        assert bias is not None
        return bias.to(tensor.dtype)

    def _merge_layer(
        self, path: str, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return weight and bias of one layer with the adapter merged by PEFT.

        PEFT finds the layer by its path, so it is put into a tree of empty modules.
        """
        kind = type(self.modules[path])
        rows, columns = weight.shape
        with torch.device("meta"):
            if issubclass(kind, nn.Embedding):
                layer: nn.Module = nn.Embedding(rows, columns)
            elif kind is nn.Linear:
                layer = nn.Linear(columns, rows, bias=bias is not None)
            else:
                layer = kind(columns, rows)
        layer.weight = nn.Parameter(weight.float(), requires_grad=False)
        if bias is not None:
            layer.bias = nn.Parameter(bias.float(), requires_grad=False)
        root = nn.Module()
        inner = root
        *parents, last = path.split(".")
        for parent in parents:
            inner.add_module(parent, nn.Module())
            inner = inner.get_submodule(parent)
        inner.add_module(last, layer)
        inject_adapter_in_model(self.config, root)
        state = {name: self.weights.read(name) for name in self.parts[path]}
        loaded = set_peft_model_state_dict(root, state)
        assert not loaded.unexpected_keys, loaded.unexpected_keys
        tuned = inner.get_submodule(last)
        tuned.merge(safe_merge=True)  # type: ignore[operator]  # a PEFT layer
        merged_layer = tuned.get_base_layer()  # type: ignore[operator]  # a PEFT layer
        return merged_layer.weight.data, None if bias is None else merged_layer.bias.data


def _write_config(base: Path, target: Path, untied: dict[str, str], last_file: str) -> None:
    for name in _CONFIG_FILES:
        if (base / name).exists():
            shutil.copyfile(base / name, target / name)
    config = json.loads((target / "config.json").read_text())
    config.pop("quantization_config", None)
    if untied:
        config["tie_word_embeddings"] = False
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if (base / _INDEX).exists():
        index = json.loads((base / _INDEX).read_text())
        index["weight_map"] |= dict.fromkeys(untied, last_file)
        (target / _INDEX).write_text(json.dumps(index, indent=2) + "\n")
