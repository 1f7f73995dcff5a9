"""Put several trained adapters of one base on it together."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.composition.centroids import set_centroids
from training.adapters.composition.combiners.merge import merged, merged_in
from training.adapters.composition.members import INSIDE, Member, learning, read_member
from training.adapters.composition.tuner import ComposedConfig, ComposedLayer, Tree, numbered
from training.config.composition import Compose, Composition, Merge, Route, Stack
from training.errors import ModelError
from training.models.heads import task_of


def apply(
    model: PreTrainedModel,
    adapter: Compose,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> PeftModel:
    """Return `model` with the adapters on it; what makes them meet is trained.

    Raises:
        ModelError: One of them cannot be composed, or was trained on another base.
    """
    with ExitStack() as kept:
        reading = _CompositionReader(model, Path(model.name_or_path), kept)
        if isinstance(adapter.method, Merge):
            members = reading.members(adapter, "compose")
            return merged(reading.model, members, adapter.method)
        whole = reading.composition("", adapter, "compose")
        tuned = _planted(reading.model, whole)
    if any(isinstance(how, Route) and how.by == "centroid" for how in adapter.combiners):
        set_centroids(tuned, adapter, tokenizer, max_length)
    return tuned


class _CompositionReader:
    """Reads members from their folders.

    Args:
        model: What they are to be on; merging passes through it.
        base: Its folder or name.
        kept: Holds folders of what is merged on the way until all is read.
    """

    def __init__(self, model: Any, base: Path, kept: ExitStack):
        self.model = model
        self._base = base
        self._kept = kept

    def members(self, composition: Composition, where: str) -> list[Member]:
        """Return the members of a composition."""
        found: list[Member] = []
        stacked = isinstance(composition.method, Stack)
        for name, given in composition.adapters.items():
            path = f"{where}.adapters.{name}"
            if isinstance(given, Composition):
                found.append(self.composition(name, given, path))
            else:
                below = found if stacked else ()
                found.append(read_member(name, Path(given), path, self._base, below))
                self._check_layers(found[-1], path)
        kinds = set().union(*(member.kinds for member in found))
        if len(kinds) > 1:
            listed = ", ".join(f"{m.name} is of kind {'/'.join(sorted(m.kinds))}" for m in found)
            raise ModelError(
                f"{where}.adapters: adapters of different kinds sit in different places of a model "
                f"and never meet: {listed}. Compose adapters of one kind"
            )
        return found

    def composition(self, name: str, given: Composition, where: str) -> Member:
        """Return a composition that the job writes out as a member of another, or as all."""
        members = self.members(given, where)
        if isinstance(given.method, Merge):
            folder = Path(self._kept.enter_context(TemporaryDirectory())) / "merged"
            self.model = merged_in(folder, self.model, members, given.method)
            return read_member(name, folder, where, self._base)
        trees = [member.tree for member in members]
        if isinstance(given.method, Stack):
            trees[-1] = learning(trees[-1])
        tree = {
            "name": name,
            "how": given.method.model_dump(mode="json"),
            "members": trees,
            "learns": given.method.learns,
        }
        reads = (None, *chain.from_iterable(member.reads for member in members))
        return Member(name, None, tree, reads)

    def _check_layers(self, member: Member, where: str) -> None:
        there = {name for name, _ in self.model.named_modules()}
        lacking = [layer for layer in member.layers if layer not in there]
        if lacking:
            raise ModelError(
                f"{where}: {member.folder} was trained on another base: it changes {lacking[0]}, "
                f"which this model does not have"
            )


def _planted(model: Any, whole: Member) -> PeftModel:
    """Return the model with the members in it, and what weighs them to be trained."""
    layers = whole.layers
    config = ComposedConfig(
        task_type=task_of(model),
        target_modules=layers,
        tree=whole.tree,
        decides=_first_of(model, layers) if _has_route(whole.tree) else "",
        linear=_is_linear(whole.tree),
    )
    tuned = get_peft_model(model, config)
    names = numbered(whole.tree)
    for layer in layers:
        composed = cast(ComposedLayer, tuned.get_submodule(f"{INSIDE}{layer}"))
        modules = {**composed.composed_kept["default"], **composed.composed_learned["default"]}
        for name, read in zip(names, whole.reads, strict=True):
            if read is not None and name in modules:
                _fill(modules[name], read(layer))
    return tuned


def _fill(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Copy a part's tensors into it; where a layer has fewer ranks than others, the rest is 0."""
    for name, parameter in module.named_parameters():
        if name in tensors:
            given = tensors[name]
            places = tuple(slice(0, size) for size in given.shape)
            parameter.data[places] = given.to(parameter)


def _has_route(tree: Tree) -> bool:
    own = tree.get("how", {}).get("kind") == "route"
    return own or any(_has_route(member) for member in tree.get("members", ()))


def _is_linear(tree: Tree) -> bool:
    if "how" not in tree:
        return bool(tree["kind"] == "lora")
    linear = tree["how"]["kind"] in ("parallel", "stack")
    return linear and all(_is_linear(member) for member in tree["members"])


def _first_of(model: Any, layers: list[str]) -> str:
    """Return which of these layers the model reaches first."""
    reached: list[str] = []
    hooks = [
        model.get_submodule(layer).register_forward_pre_hook(
            lambda *_, layer=layer: reached.append(layer)
        )
        for layer in layers
    ]
    try:
        with torch.no_grad():
            ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
            model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return reached[0]
