"""Bottleneck adapters as a PEFT tuner, so that PEFT saves, loads, switches and stacks them.

Importing this module registers the type `BOTTLENECK` with PEFT, so that folders of that type load
with `PeftModel.from_pretrained`. For a sublayer f (attention or MLP) with its normalized input x:

    sequential:  y = f(x);  y + s · U a(D y)
    parallel:    f(x) + s · U a(D x)

with D of shape `[size, width]` and U of shape `[width, size]`, both with biases. U starts at zero.
The activation a makes the adapter nonlinear, so it cannot be merged into weights.
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
    register_tuner,
)


@dataclass
class BottleneckConfig(CustomTunerConfig):
    """PEFT configuration of a bottleneck adapter; see `training.config.adapters.Bottleneck`."""

    peft_name: ClassVar[str] = "BOTTLENECK"

    placement: str = field(default="sequential")
    size: int = field(default=64)
    activation: str = field(default="relu")
    scaling: float = field(default=1.0)
    dropout: float = field(default=0.0)


class BottleneckLayer(CustomTunerLayer):
    """Sublayer with bottlenecks; several active ones are applied in order.

    Args:
        base_layer: Attention or MLP; may return a tuple whose first item is the hidden state.
        width: Width of the residual stream.
        adapter_name: The first adapter.
        config: Configuration of that adapter.
    """

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")

    def __init__(
        self, base_layer: nn.Module, width: int, adapter_name: str, config: BottleneckConfig
    ):
        super().__init__(base_layer, adapter_name)
        self.width = width
        self.configs: dict[str, BottleneckConfig] = {}
        self.activations: dict[str, nn.Module] = {}
        self.add_adapter(adapter_name, config)

    def add_adapter(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Add an adapter whose output is zero."""
        down, up = nn.Linear(self.width, config.size), nn.Linear(config.size, self.width)
        nn.init.kaiming_uniform_(down.weight, a=5**0.5)
        for tensor in (down.bias, up.weight, up.bias):
            nn.init.zeros_(tensor)
        self.bottleneck_down[adapter_name] = down
        self.bottleneck_up[adapter_name] = up
        self.configs[adapter_name] = config
        self.activations[adapter_name] = ACTIVATIONS[config.activation]()
        self.finish_adapter(adapter_name, config)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return the sublayer's output, with the active adapters applied to the hidden state."""
        output = self.base_layer(*inputs, **named)
        if self.disable_adapters:
            return output
        x = inputs[0] if inputs else named["hidden_states"]
        y = output[0] if isinstance(output, tuple) else output
        for name in self.active_adapter_names():
            y = y + self._delta(name, x, y)
        return (y, *output[1:]) if isinstance(output, tuple) else y

    def _delta(self, name: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return one adapter's output for input x and output y of the sublayer."""
        config, down = self.configs[name], cast(nn.Linear, self.bottleneck_down[name])
        source = y if config.placement == "sequential" else x
        activated = self.activations[name](down(source.to(down.weight.dtype)))
        delta = config.scaling * self.bottleneck_up[name](activated)
        if self.training and config.dropout:
            # Drops the adapter for entire rows. Multiplied by zero instead of skipped, so that
            # every process has a gradient for every parameter to reduce.
            kept = torch.rand(len(delta), 1, 1, device=delta.device) >= config.dropout
            delta = delta * kept / (1 - config.dropout)
        return delta.to(y.dtype)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Raise: a nonlinear adapter cannot be merged.

        Raises:
            ValueError: Always.
        """
        raise ValueError("a bottleneck adapter is not linear and cannot be merged into weights")

    def unmerge(self) -> None:
        """Do nothing, because nothing is ever merged."""


class BottleneckModel(CustomTunerModel):
    """Model whose targeted sublayers have bottlenecks."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer

    def create_layer(
        self, target: nn.Module, adapter_name: str, config: BottleneckConfig, path: str
    ) -> CustomTunerLayer:
        """Return a sublayer with a bottleneck; see the base class.

        Args:
            target: The sublayer.
            adapter_name: PEFT's name of the adapter.
            config: Configuration of the adapter.
            path: Full path of the sublayer.
        """
        return BottleneckLayer(target, self.width, adapter_name, config)

    def add_to_layer(
        self, layer: BottleneckLayer, adapter_name: str, config: BottleneckConfig, path: str
    ) -> None:
        """Add another bottleneck to a sublayer; see the base class.

        Args:
            layer: The sublayer.
            adapter_name: PEFT's name of the adapter.
            config: Configuration of the adapter.
            path: Full path of the sublayer.
        """
        layer.add_adapter(adapter_name, config)

    def _check_merge_allowed(self) -> None:
        raise ValueError("a bottleneck adapter is not linear and cannot be merged into weights")


register_tuner(BottleneckConfig, BottleneckModel)
