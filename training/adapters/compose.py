"""Put several trained LoRA adapters of one base on it together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, PeftType, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.composed_tuner import ComposedConfig, ComposedLayer
from training.config.compose import SAME_SHAPE, Compose, Gate, Merge
from training.errors import ModelError
from training.models.base import check_base
from training.models.heads import task_of
from training.models.weights import WeightFiles

_INSIDE = "base_model.model."


@dataclass(frozen=True)
class _Member:
    """A trained adapter."""

    name: str
    folder: Path
    config: LoraConfig
    weights: WeightFiles

    @property
    def layers(self) -> list[str]:
        """Whole names of the layers it changes."""
        names = (n.removeprefix(_INSIDE) for n in self.weights.kinds if n.endswith("lora_A.weight"))
        return [name.removesuffix(".lora_A.weight") for name in names]

    @property
    def scaling(self) -> float:
        """What its update is multiplied by."""
        r = self.config.r
        return float(self.config.lora_alpha / (r**0.5 if self.config.use_rslora else r))

    def factors(self, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A and B of a layer, [r, inputs] and [outputs, r]."""
        path = f"{_INSIDE}{layer}"
        return (
            self.weights.read(f"{path}.lora_A.weight").float(),
            self.weights.read(f"{path}.lora_B.weight").float(),
        )


def apply(
    model: PreTrainedModel,
    adapter: Compose,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> PeftModel:
    """Return `model` with the adapters on it; what makes them meet is trained.

    Raises:
        ModelError: One of them is no plain LoRA adapter, or was trained on another base.
    """
    base = Path(model.name_or_path)
    members = [_member(name, Path(folder), base) for name, folder in adapter.adapters.items()]
    _check_layers(model, members)
    if isinstance(adapter.how, Merge):
        return _merged(model, members, adapter.how)
    return _side_by_side(model, members, adapter)


def _member(name: str, folder: Path, base: Path) -> _Member:
    where = f"adapter.adapters.{name}"
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{where}: {folder} is no adapter's folder (no adapter_config.json)")
    config = PeftConfig.from_pretrained(str(folder))
    if config.peft_type != PeftType.LORA or not isinstance(config, LoraConfig):
        kind = str(getattr(config.peft_type, "value", config.peft_type)).lower()
        raise ModelError(f"{where}: {folder} is of kind {kind}; only LoRA adapters can be composed")
    for key, plain in (("use_dora", False), ("modules_to_save", None), ("bias", "none")):
        if getattr(config, key) not in (plain, []):
            raise ModelError(
                f"{where}: {folder} was trained with {key}, which changes more than an update of "
                f"weights can say; only plain LoRA adapters can be composed"
            )
    if base.is_dir():
        check_base(folder, base)
    elif config.base_model_name_or_path != str(base):
        raise ModelError(
            f"{where}: {folder} was trained on {config.base_model_name_or_path}, and this job's "
            f"model is {base}. Name that model in model.source"
        )
    return _Member(name, folder, config, WeightFiles(folder))


def _check_layers(model: PreTrainedModel, members: list[_Member]) -> None:
    there = {name for name, _ in model.named_modules()}
    for member in members:
        lacking = [layer for layer in member.layers if layer not in there]
        if lacking:
            raise ModelError(
                f"adapter.adapters.{member.name}: {member.folder} was trained on another base: it "
                f"changes {lacking[0]}, which this model does not have"
            )


def _merged(model: PreTrainedModel, members: list[_Member], how: Merge) -> PeftModel:
    """Return the model with one new adapter that is a weighted sum of the members."""
    weights = list(how.weights or [1.0] * len(members))
    if len(weights) != len(members):
        raise ModelError(
            f"adapter.how.weights has {len(weights)} numbers for {len(members)} adapters"
        )
    first = members[0]
    for other in members[1:]:
        same = other.config.r == first.config.r and set(other.layers) == set(first.layers)
        if how.combination in SAME_SHAPE and not same:
            raise ModelError(
                f"adapter.how.combination {how.combination} adds adapters of one rank and the same "
                f"targets: {first.name} has r {first.config.r} on {len(first.layers)} layers, "
                f"{other.name} r {other.config.r} on {len(other.layers)}. Use cat, svd or a form "
                f"that ends in _svd"
            )
    tuned = PeftModel.from_pretrained(model, str(first.folder), adapter_name=first.name)
    for other in members[1:]:
        tuned.load_adapter(str(other.folder), adapter_name=other.name)
    pruned = how.combination.startswith(("ties", "dare", "magnitude"))
    tuned.add_weighted_adapter(
        [member.name for member in members],
        weights,
        "default",
        combination_type=how.combination,
        svd_rank=how.r,
        **({"density": how.density} if pruned else {}),
    )
    for member in members:
        tuned.delete_adapter(member.name)
    tuned.set_adapter("default")
    return tuned


def _side_by_side(model: PreTrainedModel, members: list[_Member], adapter: Compose) -> PeftModel:
    """Return the model with the members frozen in it, and what weighs them to be trained."""
    layers = list(dict.fromkeys(layer for member in members for layer in member.layers))
    config = ComposedConfig(
        task_type=task_of(model),
        target_modules=layers,
        members=[member.name for member in members],
        ranks=[member.config.r for member in members],
        how=adapter.how.per if isinstance(adapter.how, Gate) else "parallel",
        start=getattr(adapter.how, "start", 1.0),
    )
    tuned = get_peft_model(model, config)
    for layer in layers:
        composed = tuned.get_submodule(f"{_INSIDE}{layer}")
        assert isinstance(composed, ComposedLayer)
        _fill(composed, layer, members)
    return tuned


def _fill(composed: ComposedLayer, layer: str, members: list[_Member]) -> None:
    """Copy the members' factors into a layer; who does not change it stays at zero there."""
    a, b = composed.composed_A["default"].data, composed.composed_B["default"].data
    start = 0
    for member in members:
        part = slice(start, start := start + member.config.r)
        if layer in member.layers:
            down, up = member.factors(layer)
            a[part] = down.to(a)
            b[:, part] = (up * member.scaling).to(b)
