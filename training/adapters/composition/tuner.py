"""Several adapters at work together, as one tuner of PEFT: saving and loading are PEFT's own.

Importing this file makes PEFT know `COMPOSED`. A folder holds a tree: at its leaves the members'
own weights, at its inner nodes how they meet (`training/adapters/composition/combiners`), and needs no other folder.
In each layer f, with d what a member changes there and g how much it counts:

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
    known_to_peft,
)
from training.config.composition import combiner_from

Tree = dict[str, Any]
"""A leaf: `name`, `kind` (`lora` or `bottleneck`), what that kind says of itself, `targets` (whole
names of the layers it is on), `learns`. A node: `name`, `how` (as in a job), `members` (trees),
`learns` (whether what makes them meet does)."""


@dataclass
class ComposedConfig(CustomTunerConfig):
    """What a composed adapter's folder says about it.

    Attributes:
        tree: What meets, and how.
        decides: Whole name of the layer that decides where one does for all.
        linear: Whether all of it together is a change of weights.
    """

    peft_name: ClassVar[str] = "COMPOSED"

    tree: Tree = field(default_factory=dict)
    decides: str = field(default="")
    linear: bool = field(default=False)


class ComposedLayer(CustomTunerLayer):
    """A linear layer with several updates, or a sublayer with several bottlenecks.

    Args:
        base_layer: Attention, MLP or a linear layer; what it says may come first in a tuple.
        adapter_name: PEFT's name of the composition.
        config: Of that composition.
        place: Where in the model it is.
    """

    adapter_layer_names = ("composed_kept", "composed_learned")

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: ComposedConfig, place: LayerSlot
    ):
        super().__init__(base_layer, adapter_name)
        self.roots: dict[str, CompositionNode] = {}
        self.under_way = place.under_way
        self.add(adapter_name, config, place)

    def add(self, adapter_name: str, config: ComposedConfig, place: LayerSlot) -> None:
        """Add a composition whose members change nothing yet."""
        kept, learned = nn.ModuleDict(), nn.ModuleDict()
        self.roots[adapter_name] = _grow(adapter_name, config, place, kept, learned)
        cast(nn.ModuleDict, self.composed_kept)[adapter_name] = kept
        cast(nn.ModuleDict, self.composed_learned)[adapter_name] = learned
        self.frozen_peft_weight_names[adapter_name] = ("composed_kept",)
        self.settle(adapter_name, config)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return what the layer returns, its first part changed by the members."""
        output = self.base_layer(*inputs, **named)
        if self.disable_adapters or self.merged:
            return output
        x = inputs[0] if inputs else named["hidden_states"]
        y: Tensor = output[0] if isinstance(output, tuple) else output
        for name in self.active_here():
            root = self.roots[name]
            y = y + root.change(root.speak(x, y, self.under_way), None).to(y.dtype)
        return (y, *output[1:]) if isinstance(output, tuple) else y

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add what the members change to the layer's weight.

        Raises:
            ValueError: The input decides, or a member is not linear.
        """
        for name in adapter_names or self.active_here():
            self._add_to_weight(self.roots[name].weights())
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Take the updates off again."""
        for name in self.merged_adapters:
            self._add_to_weight(-self.roots[name].weights())
        self.merged_adapters = []

    def _add_to_weight(self, change: Tensor) -> None:
        weight = cast(Any, self.base_layer).weight
        weight.data = weight.data + change.to(weight.dtype)


@dataclass(frozen=True)
class LayerSlot:
    """Where in a model a layer is.

    Attributes:
        path: Its whole name.
        inputs: Width of what it reads.
        outputs: Width of what it says.
        under_way: The pass, which all layers share.
    """

    path: str
    inputs: int
    outputs: int
    under_way: ForwardState


def parts_of(tree: Tree) -> Iterator[Tree]:
    """Yield every part of a tree, members after what they meet in."""
    yield tree
    for member in tree.get("members", ()):
        yield from parts_of(member)


def numbered(tree: Tree) -> dict[str, Tree]:
    """Return every part of a tree by the name its module has in each layer."""
    return {str(number): part for number, part in enumerate(parts_of(tree))}


def _grow(
    adapter: str,
    config: ComposedConfig,
    place: LayerSlot,
    kept: nn.ModuleDict,
    learned: nn.ModuleDict,
) -> CompositionNode:
    """Return the tree of one layer, its modules put where they are kept as they are or learn."""
    numbers = count()

    def grow(tree: Tree) -> Part:
        name = str(next(numbers))
        module = _module(tree, name, adapter, config, place)
        members = [grow(member) for member in tree.get("members", ())]
        if module is not None and any(True for _ in module.parameters()):
            (learned if tree["learns"] else kept)[name] = module
        return CompositionNode(cast(Combiner, module), members) if "how" in tree else module

    return cast(CompositionNode, grow(config.tree))


def _module(
    tree: Tree, name: str, adapter: str, config: ComposedConfig, place: LayerSlot
) -> nn.Module | None:
    if "how" in tree:
        how = combiner_from(tree["how"])
        module, _, kind = how.impl.partition(":")
        decides = config.decides == place.path
        seat = LayerSpec(
            place.inputs, place.outputs, len(tree["members"]), f"{adapter}.{name}", decides
        )
        way: nn.Module = getattr(importlib.import_module(module), kind)(how, seat)
        return way
    if place.path not in tree["targets"]:
        return None
    if tree["kind"] == "lora":
        return LowRankModule(place.inputs, place.outputs, tree["r"])
    return BottleneckModule(place.outputs, tree)


class ComposedModel(CustomTunerModel):
    """A model in whose layers several adapters meet."""

    prefix = "composed_"
    tuner_layer_cls = ComposedLayer

    def new_layer(
        self, target: nn.Module, adapter_name: str, config: ComposedConfig, path: str
    ) -> CustomTunerLayer:
        """Return a layer with a composition on it."""
        return ComposedLayer(target, adapter_name, config, self._place(target, path))

    def next_adapter(
        self, layer: ComposedLayer, adapter_name: str, config: ComposedConfig, path: str
    ) -> None:
        """Put another composition on a layer."""
        layer.add(adapter_name, config, self._place(layer.base_layer, path))

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        """PEFT looks for the name at the end; here the parts of a tree come after it."""
        return re.sub(rf"(\.composed_(?:kept|learned))\.{re.escape(adapter_name)}\.", r"\1.", key)

    def _place(self, target: nn.Module, path: str) -> LayerSlot:
        inputs, outputs = (getattr(target, side, None) for side in ("in_features", "out_features"))
        if inputs is None or outputs is None:
            inputs = outputs = self.width
        return LayerSlot(path, inputs, outputs, self._shared())

    def _shared(self) -> ForwardState:
        """Return what all layers share, begun anew whenever the model is."""
        shared: ForwardState | None = self.__dict__.get("under_way")
        if shared is None:
            shared = self.__dict__["under_way"] = ForwardState()
            inner: Any = getattr(self.model, "base_model", self.model)
            inner.register_forward_pre_hook(_Insertion(shared), with_kwargs=True)
        return shared


class _Insertion:
    """Notes, as a pass begins, whether it goes on with rows and which of their tokens count."""

    def __init__(self, under_way: ForwardState):
        self.under_way = under_way

    def __call__(self, module: nn.Module, inputs: Any, named: dict[str, Any]) -> None:
        past = named.get("past_key_values")
        self.under_way.goes_on = past is not None and past.get_seq_length() > 0
        mask = named.get("attention_mask")
        self.under_way.seen = mask if torch.is_tensor(mask) and mask.dim() == 2 else None


known_to_peft(ComposedConfig, ComposedModel)
