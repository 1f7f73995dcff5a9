"""Fold an adapter into its base's weights: one tensor in memory at a time.

PEFT does the folding. It is given one layer after the other, alone, so that neither the base nor
the result is ever in memory; a base that was trained on in 4 bits is read as it was before.
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

_INSIDE = "base_model.model."
_OURS = ("config.json", "generation_config.json")
_INDEX = "model.safetensors.index.json"


def streaming_merge(adapter: Path, base: Path, target: Path) -> None:
    """Write the base with the adapter's update to the folder `target`, file by file.

    Each tensor keeps its dtype; the update is added in fp32. A base whose files name or part its
    weights otherwise than the model does (mixtures of experts, GPT-NeoX) is folded in memory.

    Args:
        adapter: PEFT's folder.
        base: The model it was trained on.
        target: Made; weights and configuration are written to it.

    Raises:
        ModelError: This kind of adapter has no merged form, or was trained on another base.
    """
    config = PeftConfig.from_pretrained(str(adapter))
    check_foldable(config, adapter)
    if not is_streamable(base) or needs_complete_base(adapter, base):
        _fold_in_memory(adapter, base, target)
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
    _describe(base, target, untied, last_file=list(source.files)[-1].name)


def _fold_in_memory(adapter: Path, base: Path, target: Path) -> None:
    """Write base and adapter as one, both in memory at once; Transformers names what it writes."""
    dtype = next(iter(WeightFiles(base).tensors.values())).dtype
    model = merged(str(adapter), dtype=dtype, attention=None)
    model.save_pretrained(target)


def check_foldable(config: PeftConfig, adapter: Path) -> None:
    """Raise where an adapter has no merged form.

    Raises:
        ModelError: Says why.
    """
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if (reason := why_not_mergeable(kind, getattr(config, "linear", True))) is not None:
        raise ModelError(
            f"the adapter in {adapter} ({kind.lower()}) cannot be merged into weights: {reason}. "
            f"Export it with FORMAT=adapter or archive-apart, and load it beside its base"
        )


class _LayerUpdate:
    """What an adapter does to each tensor of its base.

    Args:
        config: The adapter's.
        weights: The adapter's.
        model: The base's empty_model.
    """

    def __init__(self, config: PeftConfig, weights: WeightFiles, model: PreTrainedModel):
        self.config = config
        self.weights = weights
        self.modules = dict(model.named_modules())
        prefix = "." + PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_type]
        self.parts: dict[str, list[str]] = {}
        self.whole: dict[str, str] = {}
        for name in weights.tensors:
            if name.endswith(".base_layer.weight"):
                # PEFT's copy of an embedding that the adapter is on; the base has it.
                continue
            inside = name.removeprefix(_INSIDE).replace(".base_layer.", ".")
            if prefix in inside:
                self.parts.setdefault(inside.split(prefix)[0], []).append(name)
            else:
                self.whole[inside] = name

    def check(self, source: WeightFiles, adapter: Path, base: Path) -> None:
        """Raise where the adapter changes what the base does not have.

        Raises:
            ModelError: Names the first such tensor.
        """
        for path in self.parts:
            if path not in self.modules:
                raise ModelError(
                    f"the adapter in {adapter} was trained on another base than {base}: it changes "
                    f"{path}, which that model does not have"
                )
        for name in self.whole:
            path = name.rpartition(".")[0]
            if path not in self.modules:
                raise ModelError(f"the adapter in {adapter} replaces {name}, which {base} lacks")
            kind = source.tensors.get(name)
            if kind is not None and kind.shape != self.weights.tensors[self.whole[name]].shape:
                raise ModelError(
                    f"the adapter in {adapter} was trained on another base than {base}: its {name} "
                    f"has shape {list(self.weights.tensors[self.whole[name]].shape)}, not "
                    f"{list(kind.shape)}"
                )

    def untied(self, tied: dict[str, str]) -> dict[str, str]:
        """Return tied tensors that the update tells apart, and what they were tied to."""
        changed = {f"{path}.weight" for path in self.parts} | set(self.whole)
        return {name: source for name, source in tied.items() if {name, source} & changed}

    def applied(self, name: str, stored: str, source: WeightFiles) -> torch.Tensor:
        """Return a tensor with the update added.

        Args:
            name: What it is called in the result.
            stored: What it is called in `source`.
            source: The base.
        """
        tensor = source.read(stored)
        if name in self.whole:
            return self.weights.read(self.whole[name]).to(tensor.dtype)
        path, _, key = name.rpartition(".")
        if path not in self.parts or key not in ("weight", "bias"):
            return tensor
        if key == "weight":
            return self._folded(path, tensor, None)[0].to(tensor.dtype)
        if self.config.peft_type != PeftType.IA3:
            return tensor
        # Factors of a layer's outputs are factors of its bias too.
        bias = self._folded(path, source.read(f"{path}.weight"), tensor)[1]
        assert bias is not None
        return bias.to(tensor.dtype)

    def _folded(
        self, path: str, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return weight and bias of a layer after PEFT has folded the adapter into it alone."""
        kind = type(self.modules[path])
        rows, columns = weight.shape
        with torch.device("meta"):
            if issubclass(kind, nn.Embedding):
                alone: nn.Module = nn.Embedding(rows, columns)
            elif kind is nn.Linear:
                alone = nn.Linear(columns, rows, bias=bias is not None)
            else:
                alone = kind(columns, rows)
        alone.weight = nn.Parameter(weight.float(), requires_grad=False)
        if bias is not None:
            alone.bias = nn.Parameter(bias.float(), requires_grad=False)
        house = nn.Module()
        inner = house
        *rooms, last = path.split(".")
        for room in rooms:
            inner.add_module(room, nn.Module())
            inner = inner.get_submodule(room)
        inner.add_module(last, alone)
        inject_adapter_in_model(self.config, house)
        state = {name: self.weights.read(name) for name in self.parts[path]}
        found = set_peft_model_state_dict(house, state)
        assert not found.unexpected_keys, found.unexpected_keys
        tuned = inner.get_submodule(last)
        tuned.merge(safe_merge=True)  # type: ignore[operator]  # a PEFT layer
        layer = tuned.get_base_layer()  # type: ignore[operator]  # a PEFT layer
        return layer.weight.data, None if bias is None else layer.bias.data


def _describe(base: Path, target: Path, untied: dict[str, str], last_file: str) -> None:
    for name in _OURS:
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
