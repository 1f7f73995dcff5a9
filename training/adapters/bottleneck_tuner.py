"""Bottleneck adapters as a tuner of PEFT: saving, loading, switching and stacking are PEFT's own.

Importing this file makes PEFT know `BOTTLENECK`, so that folders of that type load with
`PeftModel.from_pretrained`. Around a sublayer f (attention or MLP, its input x already normed):

    sequential:  y = f(x);  y + s · U a(D y)
    parallel:    f(x) + s · U a(D x)

with D of shape [size, width], U of shape [width, size], both with biases, U zero at the start. What
is between D and U is not linear, so such an adapter has no merged form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from torch import nn

from training.adapters.custom_tuner import (
    ACTIVATIONS,
    CustomTunerConfig,
    CustomTunerLayer,
    CustomTunerModel,
    known_to_peft,
)


@dataclass
class BottleneckConfig(CustomTunerConfig):
    """What an adapter's folder says about it."""

    peft_name: ClassVar[str] = "BOTTLENECK"

    placement: str = field(default="sequential")
    size: int = field(default=64)
    activation: str = field(default="relu")
    scaling: float = field(default=1.0)
    dropout: float = field(default=0.0)


class BottleneckLayer(CustomTunerLayer):
    """A sublayer with bottlenecks behind or beside it; several active ones follow each other.

    Args:
        base_layer: Attention or MLP; what it says may come first in a tuple.
        width: Of the residual stream.
        adapter_name: The first adapter.
        config: Of that adapter.
    """

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")

    def __init__(
        self, base_layer: nn.Module, width: int, adapter_name: str, config: BottleneckConfig
    ):
        super().__init__(base_layer, adapter_name)
        self.width = width
        self.configs: dict[str, BottleneckConfig] = {}
        self.activations: dict[str, nn.Module] = {}
        self.add(adapter_name, config)

    def add(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Add an adapter that changes nothing yet."""
        down, up = nn.Linear(self.width, config.size), nn.Linear(config.size, self.width)
        nn.init.kaiming_uniform_(down.weight, a=5**0.5)
        for tensor in (down.bias, up.weight, up.bias):
            nn.init.zeros_(tensor)
        self.bottleneck_down[adapter_name] = down
        self.bottleneck_up[adapter_name] = up
        self.configs[adapter_name] = config
        self.activations[adapter_name] = ACTIVATIONS[config.activation]()
        self.settle(adapter_name, config)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return what the sublayer returns, its first part changed by the active adapters."""
        output = self.base_layer(*inputs, **named)
        if self.disable_adapters:
            return output
        before = inputs[0] if inputs else named["hidden_states"]
        after = output[0] if isinstance(output, tuple) else output
        for name in self.active_here():
            after = after + self._change(name, before, after)
        return (after, *output[1:]) if isinstance(output, tuple) else after

    def _change(self, name: str, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        config, down = self.configs[name], cast(nn.Linear, self.bottleneck_down[name])
        read = after if config.placement == "sequential" else before
        inner = self.activations[name](down(read.to(down.weight.dtype)))
        change = config.scaling * self.bottleneck_up[name](inner)
        if self.training and config.dropout:
            # Multiplied rather than skipped: every process has a gradient for every tensor.
            kept = torch.rand(len(change), 1, 1, device=change.device) >= config.dropout
            change = change * kept / (1 - config.dropout)
        return change.to(after.dtype)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse.

        Raises:
            ValueError: Always.
        """
        raise ValueError("a bottleneck adapter is not linear and cannot be merged into weights")

    def unmerge(self) -> None:
        """Do nothing: nothing is ever merged."""


class BottleneckModel(CustomTunerModel):
    """A model whose sublayers have bottlenecks."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer

    def new_layer(
        self, target: nn.Module, adapter_name: str, config: BottleneckConfig, path: str
    ) -> CustomTunerLayer:
        """Return a sublayer with a bottleneck."""
        return BottleneckLayer(target, self.width, adapter_name, config)

    def next_adapter(
        self, layer: BottleneckLayer, adapter_name: str, config: BottleneckConfig, path: str
    ) -> None:
        """Put another bottleneck on a sublayer."""
        layer.add(adapter_name, config)

    def _check_merge_allowed(self) -> None:
        raise ValueError("a bottleneck adapter is not linear and cannot be merged into weights")


known_to_peft(BottleneckConfig, BottleneckModel)
