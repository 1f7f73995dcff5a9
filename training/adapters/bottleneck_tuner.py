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

PEFT_TYPE = "BOTTLENECK"
_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


@dataclass
class BottleneckConfig(PeftConfig):
    """What an adapter's folder says about it."""

    target_modules: list[str] | None = field(default=None)
    placement: str = field(default="sequential")
    size: int = field(default=64)
    activation: str = field(default="relu")
    scaling: float = field(default=1.0)
    dropout: float = field(default=0.0)
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        """Set the type that PEFT finds the tuner by."""
        super().__post_init__()
        self.peft_type = PEFT_TYPE


class BottleneckLayer(nn.Module, BaseTunerLayer):
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
        super().__init__()
        self.base_layer = base_layer
        self.width = width
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.configs: dict[str, BottleneckConfig] = {}
        self.activations: dict[str, nn.Module] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def __getattr__(self, name: str) -> Any:
        """Look up in the sublayer what the layers around it expect of it."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(super().__getattr__("base_layer"), name)

    def update_layer(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Add an adapter that changes nothing yet."""
        down, up = nn.Linear(self.width, config.size), nn.Linear(config.size, self.width)
        nn.init.kaiming_uniform_(down.weight, a=5**0.5)
        for tensor in (down.bias, up.weight, up.bias):
            nn.init.zeros_(tensor)
        self.bottleneck_down[adapter_name] = down
        self.bottleneck_up[adapter_name] = up
        self.configs[adapter_name] = config
        self.activations[adapter_name] = _ACTIVATIONS[config.activation]()
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return what the sublayer returns, its first part changed by the active adapters."""
        output = self.base_layer(*inputs, **named)
        if self.disable_adapters:
            return output
        before = inputs[0] if inputs else named["hidden_states"]
        after = output[0] if isinstance(output, tuple) else output
        for name in self.active_adapters:
            if name in self.bottleneck_down:
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


class BottleneckModel(BaseTuner):
    """A model whose sublayers have bottlenecks."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012  (PEFT's attribute)

    def _create_and_replace(
        self,
        peft_config: BottleneckConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        **_: Any,
    ) -> None:
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, peft_config)
            return
        width = self.model.config.get_text_config().hidden_size
        layer = BottleneckLayer(target, width, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _check_merge_allowed(self) -> None:
        raise ValueError("a bottleneck adapter is not linear and cannot be merged into weights")


PEFT_TYPE_TO_CONFIG_MAPPING[PEFT_TYPE] = BottleneckConfig
PEFT_TYPE_TO_TUNER_MAPPING[PEFT_TYPE] = BottleneckModel
PEFT_TYPE_TO_PREFIX_MAPPING[PEFT_TYPE] = BottleneckModel.prefix
