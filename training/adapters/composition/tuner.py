"""Composition as a PEFT tuner, so that PEFT saves, loads and switches it like any adapter.

Importing this module registers the type `COMPOSED` with PEFT. An adapter folder of that type holds
a tree: the members' weights at its leaves and combiners (`training.adapters.composition.combiners`)
at its inner nodes. It needs no other folder. In each layer f, with d a member's delta and g its
mixing weight:

    y = f(x) + Σ gᵢ dᵢ
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from training.adapters.composition.combiners.base import Combiner, ForwardState, LayerSpec
from training.adapters.composition.modules import (
    BottleneckModule,
    CompositionNode,
    LowRankModule,
    Part,
)
from training.adapters.custom_tuner import (
    CustomTunerConfig,
    CustomTunerLayer,
    CustomTunerModel,
    register_tuner,
)
from training.config.composition import combiner_from

Tree = dict[str, Any]
"""Description of a composition, stored in `adapter_config.json`.

A leaf has `name`, `kind` (`lora` or `bottleneck`), the settings of that kind, `targets` (full
module paths) and `learns`. A node has `name`, `how` (the combiner's section of the job), `members`
(trees) and `learns` (whether the combiner is trained)."""


@dataclass
class ComposedConfig(CustomTunerConfig):
    """PEFT configuration of a composed adapter.

    Attributes:
        tree: The members and how they are combined.
        decides: Full path of the layer that computes the routing for all layers; empty if the
            composition does not route.
        linear: Whether the composition is equivalent to an update of weights.
    """

    peft_name: ClassVar[str] = "COMPOSED"

    tree: Tree = field(default_factory=dict)
    decides: str = field(default="")
    linear: bool = field(default=False)


@dataclass(frozen=True)
class LayerSlot:
    """Position of a composed layer in the model.

    Attributes:
        path: Full module path.
        inputs: Input width.
        outputs: Output width.
        state: State of the forward pass, shared by all layers.
    """

    path: str
    inputs: int
    outputs: int
    state: ForwardState


class ComposedLayer(CustomTunerLayer):
    """Linear layer with several LoRA members, or sublayer with several bottlenecks.

    Args:
        base_layer: Attention, MLP or a linear layer; may return a tuple whose first item is the
            hidden state.
        adapter_name: PEFT's name of the composition.
        config: Configuration of that composition.
        slot: Position in the model.
    """

    adapter_layer_names = ("composed_kept", "composed_learned")
    """Attributes that hold frozen and trainable parts, by adapter: PEFT freezes by attribute."""

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: ComposedConfig, slot: LayerSlot
    ):
        super().__init__(base_layer, adapter_name)
        self.roots: dict[str, CompositionNode] = {}
        self.forward_state = slot.state
        self.add_adapter(adapter_name, config, slot)

    def add_adapter(self, adapter_name: str, config: ComposedConfig, slot: LayerSlot) -> None:
        """Add a composition whose members are zero.

        Args:
            adapter_name: PEFT's name of the composition.
            config: Configuration of the composition.
            slot: Position in the model.
        """
        frozen, trainable = nn.ModuleDict(), nn.ModuleDict()
        self.roots[adapter_name] = _build_tree(adapter_name, config, slot, frozen, trainable)
        cast(nn.ModuleDict, self.composed_kept)[adapter_name] = frozen
        cast(nn.ModuleDict, self.composed_learned)[adapter_name] = trainable
        self.frozen_peft_weight_names[adapter_name] = ("composed_kept",)
        self.finish_adapter(adapter_name, config)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return the base layer's output plus the deltas of the active compositions."""
        output = self.base_layer(*inputs, **named)
        if self.disable_adapters or self.merged:
            return output
        x = inputs[0] if inputs else named["hidden_states"]
        y: Tensor = output[0] if isinstance(output, tuple) else output
        for name in self.active_adapter_names():
            root = self.roots[name]
            y = y + root.delta(root.project(x, y, self.forward_state), None).to(y.dtype)
        return (y, *output[1:]) if isinstance(output, tuple) else y

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the compositions' weight updates to the layer's weight.

        Raises:
            ValueError: The mixing weights depend on the input, or a member is not linear.
        """
        for name in adapter_names or self.active_adapter_names():
            self._add_to_weight(self.roots[name].weight_delta())
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Subtract the merged updates from the layer's weight."""
        for name in self.merged_adapters:
            self._add_to_weight(-self.roots[name].weight_delta())
        self.merged_adapters = []

    def _add_to_weight(self, update: Tensor) -> None:
        weight = cast(Any, self.base_layer).weight
        weight.data = weight.data + update.to(weight.dtype)


def parts_of(tree: Tree) -> Iterator[Tree]:
    """Yield every part of a tree in preorder."""
    yield tree
    for member in tree.get("members", ()):
        yield from parts_of(member)


def numbered(tree: Tree) -> dict[str, Tree]:
    """Return every part of a tree by the name of its module in each layer."""
    return {str(number): part for number, part in enumerate(parts_of(tree))}


def _build_tree(
    adapter: str,
    config: ComposedConfig,
    slot: LayerSlot,
    frozen: nn.ModuleDict,
    trainable: nn.ModuleDict,
) -> CompositionNode:
    """Return the tree of one layer, with its modules registered in `frozen` or `trainable`."""
    numbers = count()

    def build(tree: Tree) -> Part:
        # Numbered in preorder, as in `numbered`: the number is part of the saved tensor's name.
        name = str(next(numbers))
        module = _create_module(tree, name, adapter, config, slot)
        members = [build(member) for member in tree.get("members", ())]
        if module is not None and any(True for _ in module.parameters()):
            (trainable if tree["learns"] else frozen)[name] = module
        return CompositionNode(cast(Combiner, module), members) if "how" in tree else module

    return cast(CompositionNode, build(config.tree))


def _create_module(
    tree: Tree, name: str, adapter: str, config: ComposedConfig, slot: LayerSlot
) -> nn.Module | None:
    if "how" in tree:
        section = combiner_from(tree["how"])
        module, _, class_name = section.impl.partition(":")
        is_router = config.decides == slot.path
        layer = LayerSpec(
            slot.inputs, slot.outputs, len(tree["members"]), f"{adapter}.{name}", is_router
        )
        combiner: nn.Module = getattr(importlib.import_module(module), class_name)(section, layer)
        return combiner
    if slot.path not in tree["targets"]:
        return None
    if tree["kind"] == "lora":
        return LowRankModule(slot.inputs, slot.outputs, tree["r"])
    return BottleneckModule(slot.outputs, tree)


class ComposedModel(CustomTunerModel):
    """Model whose targeted layers are replaced by `ComposedLayer`."""

    prefix = "composed_"
    tuner_layer_cls = ComposedLayer

    def create_layer(
        self, target: nn.Module, adapter_name: str, config: ComposedConfig, path: str
    ) -> CustomTunerLayer:
        """Return a composed layer around `target`; see the base class.

        Args:
            target: Module of the base model.
            adapter_name: PEFT's name of the composition.
            config: Configuration of the composition.
            path: Full path of the module.
        """
        return ComposedLayer(target, adapter_name, config, self._slot(target, path))

    def add_to_layer(
        self, layer: ComposedLayer, adapter_name: str, config: ComposedConfig, path: str
    ) -> None:
        """Add another composition to a layer; see the base class.

        Args:
            layer: The composed layer.
            adapter_name: PEFT's name of the composition.
            config: Configuration of the composition.
            path: Full path of the module.
        """
        layer.add_adapter(adapter_name, config, self._slot(layer.base_layer, path))

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        """Remove the adapter's name from the middle of a key.

        PEFT looks for the name at the end; here the names of the tree's parts follow it.
        """
        return re.sub(rf"(\.composed_(?:kept|learned))\.{re.escape(adapter_name)}\.", r"\1.", key)

    def _slot(self, target: nn.Module, path: str) -> LayerSlot:
        inputs, outputs = (getattr(target, side, None) for side in ("in_features", "out_features"))
        if inputs is None or outputs is None:
            inputs = outputs = self.width
        return LayerSlot(path, inputs, outputs, self._shared_state())

    def _shared_state(self) -> ForwardState:
        """Return the state that all layers share, updated before every forward pass."""
        shared: ForwardState | None = self.__dict__.get("forward_state")
        if shared is None:
            shared = self.__dict__["forward_state"] = ForwardState()
            inner: Any = getattr(self.model, "base_model", self.model)
            inner.register_forward_pre_hook(_StateUpdate(shared), with_kwargs=True)
        return shared


class _StateUpdate:
    """Forward pre-hook that records the attention mask and whether rows are continued."""

    def __init__(self, state: ForwardState):
        self.state = state

    def __call__(self, module: nn.Module, inputs: Any, named: dict[str, Any]) -> None:
        past = named.get("past_key_values")
        self.state.continues_rows = past is not None and past.get_seq_length() > 0
        mask = named.get("attention_mask")
        is_padding_mask = torch.is_tensor(mask) and mask.dim() == 2
        self.state.attention_mask = mask if is_padding_mask else None


register_tuner(ComposedConfig, ComposedModel)
