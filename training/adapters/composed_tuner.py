"""Several LoRA adapters side by side, as one tuner of PEFT: saving and loading are PEFT's own.

Importing this file makes PEFT know `COMPOSED`. In each layer, with A the members' A one below the
other, B their B (times their scaling) side by side, and g one number per member, which stands for
all of that member's ranks:

    y = W x + B (g ⊙ A x)

    parallel           g is learned
    gate, per token    g = softmax(V x + b), V and b learned
    gate, per sequence the same of the mean of x over the sequence so far

A and B are kept with it and never change, so that its folder needs no other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

PEFT_TYPE = "COMPOSED"


@dataclass
class ComposedConfig(PeftConfig):
    """What a composed adapter's folder says about it.

    Attributes:
        target_modules: Whole names of the layers it is on.
        members: Names of the adapters, in order.
        ranks: Of each.
        how: `parallel`, `token` or `sequence`.
        start: What weights start from.
    """

    target_modules: list[str] | None = field(default=None)
    members: list[str] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    how: str = field(default="parallel")
    start: float = field(default=1.0)
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        """Set the type that PEFT finds the tuner by."""
        super().__post_init__()
        self.peft_type = PEFT_TYPE


class ComposedLayer(nn.Module, BaseTunerLayer):
    """A linear layer with several updates.

    Args:
        base_layer: Has `in_features` and `out_features`.
        adapter_name: PEFT's name of the composition.
        config: Of that composition.
    """

    adapter_layer_names = ("composed_A", "composed_B", "composed_gate")

    def __init__(self, base_layer: Any, adapter_name: str, config: ComposedConfig):
        super().__init__()
        self.base_layer = base_layer
        self.composed_A = nn.ParameterDict()
        self.composed_B = nn.ParameterDict()
        self.composed_gate = nn.ModuleDict()
        self.configs: dict[str, ComposedConfig] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._active_adapter = adapter_name
        self.frozen_peft_weight_names: dict[str, tuple[str, ...]] = {}
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: ComposedConfig) -> None:
        """Add a composition whose members change nothing yet."""
        base: Any = self.base_layer
        inputs, outputs = base.in_features, base.out_features
        total = sum(config.ranks)
        self.composed_A[adapter_name] = nn.Parameter(torch.zeros(total, inputs))
        self.composed_B[adapter_name] = nn.Parameter(torch.zeros(outputs, total))
        self.composed_gate[adapter_name] = _Gate(inputs, config)
        self.configs[adapter_name] = config
        self.frozen_peft_weight_names[adapter_name] = ("composed_A", "composed_B")
        layer = cast(Any, self)  # PEFT's part has no types
        layer._move_adapter_to_device_of_base_layer(adapter_name)
        layer.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        """Return what the layer returns, changed by the members."""
        base: Any = self.base_layer
        output: torch.Tensor = base(x, *rest, **named)
        if self.disable_adapters or self.merged:
            return output
        for name in self._active():
            a, b = self.composed_A[name], self.composed_B[name]
            shares = self._gate(name)(x.to(a.dtype))
            inner = nn.functional.linear(x.to(a.dtype), a) * self._per_rank(name, shares)
            output = output + nn.functional.linear(inner, b).to(output.dtype)
        return output

    def _active(self) -> list[str]:
        return [name for name in cast("list[str]", self.active_adapters) if name in self.composed_A]

    def _gate(self, name: str) -> _Gate:
        return cast(_Gate, self.composed_gate[name])

    def _per_rank(self, name: str, shares: torch.Tensor) -> torch.Tensor:
        ranks = torch.tensor(self.configs[name].ranks, device=shares.device)
        total = sum(self.configs[name].ranks)
        return shares.repeat_interleave(ranks, dim=-1, output_size=total)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the weighted updates to the layer's weight.

        Raises:
            ValueError: A gate decides by the input.
        """
        for name in adapter_names or self._active():
            if self.configs[name].how != "parallel":
                raise ValueError("what a gate decides depends on the input and cannot be merged")
            shares = self._per_rank(name, self._gate(name).weights.data)
            a, b = self.composed_A[name].data, self.composed_B[name].data
            weight = cast(Any, self.base_layer).weight
            weight.data = weight.data + ((b * shares) @ a).to(weight.dtype)
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Take the updates off again."""
        for name in self.merged_adapters:
            shares = self._per_rank(name, self._gate(name).weights.data)
            change = (self.composed_B[name].data * shares) @ self.composed_A[name].data
            weight = cast(Any, self.base_layer).weight
            weight.data = weight.data - change.to(weight.dtype)
        self.merged_adapters = []


class _Gate(nn.Module):
    """Says how much each member counts."""

    def __init__(self, inputs: int, config: ComposedConfig):
        super().__init__()
        self.how = config.how
        number = len(config.members)
        if self.how == "parallel":
            self.weights = nn.Parameter(torch.full((number,), config.start))
        else:
            # Zero: at first all count the same, wherever the input lies.
            self.weights = nn.Parameter(torch.zeros(number, inputs))
            self.bias = nn.Parameter(torch.zeros(number))
        self._seen: tuple[torch.Tensor, int] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return shares, [members] or [..., members]."""
        if self.how == "parallel":
            return self.weights
        if self.how == "sequence":
            x = self._mean_so_far(x)
        return torch.softmax(nn.functional.linear(x, self.weights, self.bias), dim=-1)

    def _mean_so_far(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean of each place and all before it; x is [batch, length, inputs].

        An answer is written one token at a time: a single token goes on from what came before.
        """
        total, number = x.new_zeros(len(x), 1, x.shape[-1]), 0
        goes_on = not self.training and x.shape[1] == 1 and self._seen is not None
        if goes_on and self._seen is not None and len(self._seen[0]) == len(x):
            total, number = self._seen
        sums = total + x.cumsum(dim=1)
        if not self.training:
            self._seen = (sums[:, -1:].detach(), number + x.shape[1])
        count = torch.arange(number + 1, number + x.shape[1] + 1, device=x.device, dtype=x.dtype)
        return sums / count[:, None]


class ComposedModel(BaseTuner):
    """A model in whose layers several adapters meet."""

    prefix = "composed_"
    tuner_layer_cls = ComposedLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012  (PEFT's attribute)

    def _create_and_replace(
        self,
        peft_config: ComposedConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        **_: Any,
    ) -> None:
        if isinstance(target, ComposedLayer):
            target.update_layer(adapter_name, peft_config)
            return
        layer = ComposedLayer(target, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)


PEFT_TYPE_TO_CONFIG_MAPPING[PEFT_TYPE] = ComposedConfig
PEFT_TYPE_TO_TUNER_MAPPING[PEFT_TYPE] = ComposedModel
PEFT_TYPE_TO_PREFIX_MAPPING[PEFT_TYPE] = ComposedModel.prefix
