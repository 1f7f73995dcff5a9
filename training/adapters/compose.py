"""Composition of several trained adapters of one base model."""

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
from training.adapters.composition.combiners.merge import merge_adapters, merge_to_folder
from training.adapters.composition.members import (
    PEFT_PREFIX,
    Member,
    read_member,
    trainable_tree,
)
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
    """Return `model` with the composed adapters; only the combiner is trained.

    Args:
        model: The base model.
        adapter: The job's section.
        tokenizer: The model's tokenizer.
        max_length: Number of tokens of the longest row.

    Raises:
        ModelError: A member cannot be composed, or was trained on another base.
    """
    with ExitStack() as temporary:
        reader = _CompositionReader(model, Path(model.name_or_path), temporary)
        if isinstance(adapter.method, Merge):
            members = reader.members(adapter, "compose")
            return merge_adapters(reader.model, members, adapter.method)
        root = reader.composition("", adapter, "compose")
        tuned = _with_composition(reader.model, root)
    if any(isinstance(how, Route) and how.by == "centroid" for how in adapter.combiners):
        set_centroids(tuned, adapter, tokenizer, max_length)
    return tuned


class _CompositionReader:
    """Reader of the members of a composition from their folders.

    Args:
        model: The base model; a nested merge replaces it with PEFT's unloaded copy.
        base: Folder or name of the base model.
        temporary: Keeps the folders of nested merges until all members are read.
    """

    def __init__(self, model: Any, base: Path, temporary: ExitStack):
        self.model = model
        self._base = base
        self._temporary = temporary

    def members(self, section: Composition, key: str) -> list[Member]:
        """Return the members of a composition.

        Args:
            section: The composition in the job.
            key: Key of the job, for messages.

        Raises:
            ModelError: A member cannot be read, or the members are of different kinds.
        """
        members: list[Member] = []
        stacked = isinstance(section.method, Stack)
        for name, content in section.adapters.items():
            path = f"{key}.adapters.{name}"
            if isinstance(content, Composition):
                members.append(self.composition(name, content, path))
            else:
                previous = members if stacked else ()
                members.append(read_member(name, Path(content), path, self._base, previous))
                self._check_layers(members[-1], path)
        kinds = set().union(*(member.kinds for member in members))
        if len(kinds) > 1:
            listed = ", ".join(f"{m.name} is of kind {'/'.join(sorted(m.kinds))}" for m in members)
            raise ModelError(
                f"{key}.adapters: adapters of different kinds change different modules and cannot "
                f"be combined in one layer: {listed}. Compose adapters of one kind"
            )
        return members

    def composition(self, name: str, section: Composition, key: str) -> Member:
        """Return a composition that the job writes out, as one member.

        Args:
            name: Name as a member; empty for the root.
            section: The composition in the job.
            key: Key of the job, for messages.
        """
        members = self.members(section, key)
        if isinstance(section.method, Merge):
            folder = Path(self._temporary.enter_context(TemporaryDirectory())) / "merged"
            self.model = merge_to_folder(folder, self.model, members, section.method)
            return read_member(name, folder, key, self._base)
        trees = [member.tree for member in members]
        if isinstance(section.method, Stack):
            # A stack has no combiner to train; its last member is trained instead.
            trees[-1] = trainable_tree(trees[-1])
        tree = {
            "name": name,
            "how": section.method.model_dump(mode="json"),
            "members": trees,
            "learns": section.method.learns,
        }
        readers = (None, *chain.from_iterable(member.readers for member in members))
        return Member(name, None, tree, readers)

    def _check_layers(self, member: Member, key: str) -> None:
        present = {name for name, _ in self.model.named_modules()}
        missing = [layer for layer in member.layers if layer not in present]
        if missing:
            raise ModelError(
                f"{key}: {member.folder} was trained on another base: it changes {missing[0]}, "
                f"which this model does not have"
            )


def _with_composition(model: Any, root: Member) -> PeftModel:
    """Return the model with the members' weights loaded and only the combiners trainable."""
    layers = root.layers
    config = ComposedConfig(
        task_type=task_of(model),
        target_modules=layers,
        tree=root.tree,
        decides=_first_reached(model, layers) if _has_route(root.tree) else "",
        linear=_is_linear(root.tree),
    )
    tuned = get_peft_model(model, config)
    names = numbered(root.tree)
    for layer in layers:
        composed = cast(ComposedLayer, tuned.get_submodule(f"{PEFT_PREFIX}{layer}"))
        modules = {**composed.composed_kept["default"], **composed.composed_learned["default"]}
        for name, read in zip(names, root.readers, strict=True):
            if read is not None and name in modules:
                _copy_tensors(modules[name], read(layer))
    return tuned


def _copy_tensors(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Copy a part's tensors into its module.

    A member has the largest rank of its layers everywhere; in a layer of lower rank the remaining
    rows and columns stay zero.
    """
    for name, parameter in module.named_parameters():
        if name in tensors:
            tensor = tensors[name]
            corner = tuple(slice(0, size) for size in tensor.shape)
            parameter.data[corner] = tensor.to(parameter)


def _has_route(tree: Tree) -> bool:
    own = tree.get("how", {}).get("kind") == "route"
    return own or any(_has_route(member) for member in tree.get("members", ()))


def _is_linear(tree: Tree) -> bool:
    if "how" not in tree:
        return bool(tree["kind"] == "lora")
    linear = tree["how"]["kind"] in ("parallel", "stack")
    return linear and all(_is_linear(member) for member in tree["members"])


def _first_reached(model: Any, layers: list[str]) -> str:
    """Return the layer that a forward pass reaches first."""
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
