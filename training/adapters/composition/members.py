"""Trained adapters on disk, read layer by layer as the members of a composition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftType
from peft.utils.other import get_pattern_key

from training.adapters.bottleneck_tuner import BottleneckConfig
from training.adapters.composition.tuner import ComposedConfig, Tree, numbered, parts_of
from training.errors import ModelError
from training.models.base_digest import check_base_digest
from training.models.safetensors_io import WeightFiles

PEFT_PREFIX = "base_model.model."
"""Prefix of every module path in PEFT's files."""
LayerReader = Callable[[str], dict[str, torch.Tensor]]
"""Returns the tensors of one part in the layer of a path, by their names in the part's module."""


@dataclass(frozen=True)
class Member:
    """Trained adapter, or a composition of such.

    Attributes:
        name: Name in the job.
        folder: Folder it is read from; None for a composition written out in the job.
        tree: Its part of the composition (see `training.adapters.composition.tuner.Tree`).
        readers: One reader per part of the tree, in preorder; None for a part without weights yet.
        config: PEFT's configuration, if it is read from a folder.
    """

    name: str
    folder: Path | None
    tree: Tree
    readers: tuple[LayerReader | None, ...]
    config: PeftConfig | None = None

    @property
    def layers(self) -> list[str]:
        """Full paths of the layers it targets."""
        leaves = [part for part in parts_of(self.tree) if "how" not in part]
        return list(dict.fromkeys(layer for leaf in leaves for layer in leaf["targets"]))

    @property
    def kinds(self) -> set[str]:
        """Kinds of its leaves."""
        return {str(part["kind"]) for part in parts_of(self.tree) if "how" not in part}

    @property
    def is_lora(self) -> bool:
        """True if it is a single LoRA adapter."""
        return isinstance(self.config, LoraConfig)


def read_member(
    name: str, folder: Path, key: str, base: Path, previous: Sequence[Member] = ()
) -> Member:
    """Return the adapter in a folder.

    Args:
        name: Name in the job.
        folder: PEFT's folder.
        key: Key of the job that names it, for messages.
        base: Model it is applied to.
        previous: Earlier members of a stack, which it may have been trained on top of.

    Raises:
        ModelError: It cannot be composed, or was trained on another base.
    """
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{key}: {folder} is no adapter's folder (no adapter_config.json)")
    config = PeftConfig.from_pretrained(str(folder))
    member = _member_of_config(config, name, folder, key)
    if not base.is_dir():
        if config.base_model_name_or_path != str(base):
            raise ModelError(
                f"{key}: {folder} was trained on {config.base_model_name_or_path}, and this "
                f"job's model is {base}. Name that model in model.source"
            )
        return member
    try:
        check_base_digest(folder, base)
    except ModelError:
        # A stacked adapter may name a merged model as its base: the base plus earlier members.
        trained_on = Path(str(config.base_model_name_or_path))
        if not previous or not _is_base_merged_with(trained_on, base, previous):
            raise
        check_base_digest(folder, trained_on)
    return member


def _member_of_config(config: PeftConfig, name: str, folder: Path, key: str) -> Member:
    files = WeightFiles(folder)
    # AdaLoRA's configuration is a LoraConfig too, but its update has an additional factor E.
    if isinstance(config, LoraConfig) and config.peft_type == PeftType.LORA:
        _check_plain(config, folder, key)
        return _lora_member(config, name, folder, files)
    if isinstance(config, BottleneckConfig):
        return _bottleneck_member(config, name, folder, files)
    if isinstance(config, ComposedConfig):
        return _composed_member(config, name, folder, files)
    kind = str(getattr(config.peft_type, "value", config.peft_type)).lower()
    raise ModelError(
        f"{key}: {folder} is of kind {kind}; only LoRA adapters, bottlenecks and compositions of "
        f"these can be composed"
    )


def _check_plain(config: LoraConfig, folder: Path, key: str) -> None:
    for option, plain in (("use_dora", False), ("modules_to_save", None), ("bias", "none")):
        if getattr(config, option) not in (plain, []):
            raise ModelError(
                f"{key}: {folder} was trained with {option}, which a low-rank update cannot "
                f"represent; only plain LoRA adapters can be composed"
            )


def _lora_member(config: LoraConfig, name: str, folder: Path, files: WeightFiles) -> Member:
    layers = _targeted_layers(files, ".lora_A.weight")

    def read(layer: str) -> dict[str, torch.Tensor]:
        down = files.read(f"{PEFT_PREFIX}{layer}.lora_A.weight").float()
        up = files.read(f"{PEFT_PREFIX}{layer}.lora_B.weight").float()
        pattern = get_pattern_key(list(config.alpha_pattern or {}), layer)
        alpha = (config.alpha_pattern or {}).get(pattern, config.lora_alpha)
        r = len(down)
        return {"down": down, "up": up * (alpha / (r**0.5 if config.use_rslora else r))}

    ranks = [files.tensors[f"{PEFT_PREFIX}{layer}.lora_A.weight"].shape[0] for layer in layers]
    tree = {"name": name, "kind": "lora", "r": max(ranks), "targets": layers, "learns": False}
    return Member(name, folder, tree, (read,), config)


def _bottleneck_member(
    config: BottleneckConfig, name: str, folder: Path, files: WeightFiles
) -> Member:
    def read(layer: str) -> dict[str, torch.Tensor]:
        return {
            f"{side}.{part}": files.read(f"{PEFT_PREFIX}{layer}.bottleneck_{side}.{part}").float()
            for side in ("down", "up")
            for part in ("weight", "bias")
        }

    spec = {key: getattr(config, key) for key in ("placement", "size", "activation", "scaling")}
    layers = _targeted_layers(files, ".bottleneck_down.weight")
    tree = {"name": name, "kind": "bottleneck", **spec, "targets": layers, "learns": False}
    return Member(name, folder, tree, (read,), config)


def _composed_member(config: ComposedConfig, name: str, folder: Path, files: WeightFiles) -> Member:
    """Return a trained composition with all its parts frozen."""

    def reader(number: str) -> LayerReader:
        def read(layer: str) -> dict[str, torch.Tensor]:
            tensors: dict[str, torch.Tensor] = {}
            for side in ("kept", "learned"):
                prefix = f"{PEFT_PREFIX}{layer}.composed_{side}.{number}."
                names = [n for n in files.tensors if n.startswith(prefix)]
                tensors |= {n.removeprefix(prefix): files.read(n).float() for n in names}
            return tensors

        return read

    tree = {**frozen_tree(config.tree), "name": name}
    readers = tuple(reader(number) for number in numbered(tree))
    return Member(name, folder, tree, readers, config)


def frozen_tree(tree: Tree) -> Tree:
    """Return a copy of a tree with all its parts frozen."""
    members = {"members": [frozen_tree(m) for m in tree["members"]]} if "members" in tree else {}
    return {**tree, **members, "learns": False}


def trainable_tree(tree: Tree) -> Tree:
    """Return a copy of a tree with all its parts trainable."""
    members = {"members": [trainable_tree(m) for m in tree["members"]]} if "members" in tree else {}
    return {**tree, **members, "learns": True}


def _targeted_layers(files: WeightFiles, suffix: str) -> list[str]:
    names = [name for name in files.tensors if name.endswith(suffix)]
    return [name.removeprefix(PEFT_PREFIX).removesuffix(suffix) for name in names]


def _is_base_merged_with(model: Path, base: Path, previous: Sequence[Member]) -> bool:
    """Return True if a model's weights are the base's plus the updates of these adapters.

    Only the first and the last targeted layer are compared: enough to recognize the model, and
    cheap for a large one.
    """
    if not model.is_dir() or not all(member.is_lora for member in previous):
        return False
    base_files, model_files = WeightFiles(base), WeightFiles(model)
    layers = list(dict.fromkeys(layer for member in previous for layer in member.layers))
    for layer in (layers[0], layers[-1]):
        name = f"{layer}.weight"
        if name not in base_files or name not in model_files:
            return False
        if base_files.tensors[name] != model_files.tensors[name]:
            return False
        weight = base_files.read(name)
        expected = weight.float()
        for member in previous:
            read = member.readers[0]
            if layer in member.layers and read is not None:
                part: dict[str, Any] = read(layer)
                expected = expected + part["up"] @ part["down"]
        # The merged model was rounded to the dtype it was saved in.
        if not torch.allclose(
            model_files.read(name).float(), expected.to(weight.dtype).float(), atol=1e-3
        ):
            return False
    return True
