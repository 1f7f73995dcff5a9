"""Trained adapters as they lie on disk, read layer by layer to become members of a composition."""

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

INSIDE = "base_model.model."
Read = Callable[[str], dict[str, torch.Tensor]]
"""Returns the parameters of a part in a layer, by their names in its module."""


@dataclass(frozen=True)
class Member:
    """A trained adapter, or a composition of such.

    Attributes:
        name: In the job.
        folder: Where it lies; None for a composition that the job writes out.
        tree: What it is (see `composed_tuner.Tree`).
        reads: One for each part of the tree, in its order; None where nothing was trained yet.
        config: PEFT's, where it lies in a folder.
    """

    name: str
    folder: Path | None
    tree: Tree
    reads: tuple[Read | None, ...]
    config: PeftConfig | None = None

    @property
    def layers(self) -> list[str]:
        """Whole names of the layers it changes."""
        leaves = [part for part in parts_of(self.tree) if "how" not in part]
        return list(dict.fromkeys(layer for leaf in leaves for layer in leaf["targets"]))

    @property
    def kinds(self) -> set[str]:
        """What its leaves are."""
        return {str(part["kind"]) for part in parts_of(self.tree) if "how" not in part}

    @property
    def is_lora(self) -> bool:
        """Whether it is one plain LoRA adapter."""
        return isinstance(self.config, LoraConfig)


def read_member(
    name: str, folder: Path, where: str, base: Path, below: Sequence[Member] = ()
) -> Member:
    """Return the adapter in a folder.

    Args:
        name: In the job.
        folder: PEFT's.
        where: Where it is named in the job.
        base: The model it is to be on.
        below: Members it may have been trained on top of.

    Raises:
        ModelError: It is none that can be composed, or was trained on another base.
    """
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{where}: {folder} is no adapter's folder (no adapter_config.json)")
    config = PeftConfig.from_pretrained(str(folder))
    member = _of(config, name, folder, where)
    if not base.is_dir():
        if config.base_model_name_or_path != str(base):
            raise ModelError(
                f"{where}: {folder} was trained on {config.base_model_name_or_path}, and this "
                f"job's model is {base}. Name that model in model.source"
            )
        return member
    try:
        check_base_digest(folder, base)
    except ModelError:
        if not below or not _is_on(Path(str(config.base_model_name_or_path)), base, below):
            raise
        check_base_digest(folder, Path(str(config.base_model_name_or_path)))
    return member


def _of(config: PeftConfig, name: str, folder: Path, where: str) -> Member:
    files = WeightFiles(folder)
    # AdaLoRA's is one too, and its updates have a factor more.
    if isinstance(config, LoraConfig) and config.peft_type == PeftType.LORA:
        _check_plain(config, folder, where)
        return _lora(config, name, folder, files)
    if isinstance(config, BottleneckConfig):
        return _bottleneck(config, name, folder, files)
    if isinstance(config, ComposedConfig):
        return _composed(config, name, folder, files)
    kind = str(getattr(config.peft_type, "value", config.peft_type)).lower()
    raise ModelError(
        f"{where}: {folder} is of kind {kind}; only LoRA adapters, bottlenecks and compositions of "
        f"such can be composed"
    )


def _check_plain(config: LoraConfig, folder: Path, where: str) -> None:
    for key, plain in (("use_dora", False), ("modules_to_save", None), ("bias", "none")):
        if getattr(config, key) not in (plain, []):
            raise ModelError(
                f"{where}: {folder} was trained with {key}, which changes more than an update of "
                f"weights can say; only plain LoRA adapters can be composed"
            )


def _lora(config: LoraConfig, name: str, folder: Path, files: WeightFiles) -> Member:
    layers = _layers(files, ".lora_A.weight")

    def read(layer: str) -> dict[str, torch.Tensor]:
        down = files.read(f"{INSIDE}{layer}.lora_A.weight").float()
        up = files.read(f"{INSIDE}{layer}.lora_B.weight").float()
        key = get_pattern_key(list(config.alpha_pattern or {}), layer)
        alpha = (config.alpha_pattern or {}).get(key, config.lora_alpha)
        r = len(down)
        return {"down": down, "up": up * (alpha / (r**0.5 if config.use_rslora else r))}

    ranks = [files.tensors[f"{INSIDE}{layer}.lora_A.weight"].shape[0] for layer in layers]
    tree = {"name": name, "kind": "lora", "r": max(ranks), "targets": layers, "learns": False}
    return Member(name, folder, tree, (read,), config)


def _bottleneck(config: BottleneckConfig, name: str, folder: Path, files: WeightFiles) -> Member:
    def read(layer: str) -> dict[str, torch.Tensor]:
        return {
            f"{side}.{part}": files.read(f"{INSIDE}{layer}.bottleneck_{side}.{part}").float()
            for side in ("down", "up")
            for part in ("weight", "bias")
        }

    about = {key: getattr(config, key) for key in ("placement", "size", "activation", "scaling")}
    layers = _layers(files, ".bottleneck_down.weight")
    tree = {"name": name, "kind": "bottleneck", **about, "targets": layers, "learns": False}
    return Member(name, folder, tree, (read,), config)


def _composed(config: ComposedConfig, name: str, folder: Path, files: WeightFiles) -> Member:
    """Return a trained composition, all of it frozen: members stay as they were."""

    def reader(number: str) -> Read:
        def read(layer: str) -> dict[str, torch.Tensor]:
            found: dict[str, torch.Tensor] = {}
            for side in ("kept", "learned"):
                start = f"{INSIDE}{layer}.composed_{side}.{number}."
                names = [n for n in files.tensors if n.startswith(start)]
                found |= {n.removeprefix(start): files.read(n).float() for n in names}
            return found

        return read

    tree = {**frozen(config.tree), "name": name}
    reads = tuple(reader(number) for number in numbered(tree))
    return Member(name, folder, tree, reads, config)


def frozen(tree: Tree) -> Tree:
    """Return a tree of which nothing learns."""
    below = {"members": [frozen(m) for m in tree["members"]]} if "members" in tree else {}
    return {**tree, **below, "learns": False}


def learning(tree: Tree) -> Tree:
    """Return a tree of which everything learns."""
    below = {"members": [learning(m) for m in tree["members"]]} if "members" in tree else {}
    return {**tree, **below, "learns": True}


def _layers(files: WeightFiles, end: str) -> list[str]:
    names = [name for name in files.tensors if name.endswith(end)]
    return [name.removeprefix(INSIDE).removesuffix(end) for name in names]


def _is_on(stood_on: Path, base: Path, below: Sequence[Member]) -> bool:
    """Whether a model is the base with the update of these adapters in its weights.

    Compared in the first and the last layer that they change.
    """
    if not stood_on.is_dir() or not all(member.is_lora for member in below):
        return False
    before, after = WeightFiles(base), WeightFiles(stood_on)
    layers = list(dict.fromkeys(layer for member in below for layer in member.layers))
    for layer in (layers[0], layers[-1]):
        name = f"{layer}.weight"
        if name not in before or name not in after or before.tensors[name] != after.tensors[name]:
            return False
        weight = before.read(name)
        expected = weight.float()
        for member in below:
            read = member.reads[0]
            if layer in member.layers and read is not None:
                part: dict[str, Any] = read(layer)
                expected = expected + part["up"] @ part["down"]
        if not torch.allclose(
            after.read(name).float(), expected.to(weight.dtype).float(), atol=1e-3
        ):
            return False
    return True
