"""Base classes of the tuners that Temper adds to PEFT.

A tuner consists of a configuration (stored in the adapter's folder), a layer (a module of the base
model with adapters) and a model (which replaces modules with such layers). `register_tuner` adds
the three to PEFT's registries, so that `PeftModel.from_pretrained` loads folders of that type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
"""Activation modules by their name in a job."""


@dataclass
class CustomTunerConfig(PeftConfig):
    """Configuration stored in the adapter's folder.

    Attributes:
        target_modules: Names of the targeted modules, or suffixes of such.
        modules_to_save: Always None; PEFT reads the attribute.
    """

    peft_name: ClassVar[str]

    target_modules: list[str] | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        """Set the type under which PEFT looks up the tuner."""
        super().__post_init__()
        self.peft_type = self.peft_name


class CustomTunerLayer(nn.Module, BaseTunerLayer):
    """Module of the base model with adapters.

    Args:
        base_layer: The module.
        adapter_name: The first adapter.
    """

    def __init__(self, base_layer: nn.Module, adapter_name: str):
        super().__init__()
        self.base_layer = base_layer
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._active_adapter = adapter_name
        self.frozen_peft_weight_names: dict[str, tuple[str, ...]] = {}
        for name in self.adapter_layer_names:
            setattr(self, name, nn.ModuleDict())

    def finish_adapter(self, adapter_name: str, config: CustomTunerConfig) -> None:
        """Move a new adapter to the base layer's device and update which parameters train."""
        layer = cast(Any, self)  # PEFT's base class is untyped
        layer._move_adapter_to_device_of_base_layer(adapter_name)
        layer.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def active_adapter_names(self) -> list[str]:
        """Return the active adapters that target this layer."""
        names = cast("list[str]", self.active_adapters)
        first = cast(nn.ModuleDict, getattr(self, self.adapter_layer_names[0]))
        return [name for name in names if name in first]

    def __getattr__(self, name: str) -> Any:
        """Forward attributes that the surrounding model reads, such as `layer_idx`.

        Raises:
            AttributeError: Neither this layer nor its base layer has the attribute.
        """
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Without this check a copy or unpickled layer, which has no base_layer yet, recurses.
            if name == "base_layer":
                raise
            return getattr(super().__getattr__("base_layer"), name)


class CustomTunerModel(BaseTuner):
    """Model with targeted modules replaced by a `CustomTunerLayer`."""

    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012  (PEFT's attribute)

    def create_layer(
        self, target: nn.Module, adapter_name: str, config: Any, path: str
    ) -> CustomTunerLayer:
        """Return a layer around a module, with its first adapter.

        Args:
            target: The module.
            adapter_name: PEFT's name of the adapter.
            config: Configuration of the adapter.
            path: Full path of the module in the model.
        """
        raise NotImplementedError

    def add_to_layer(self, layer: Any, adapter_name: str, config: Any, path: str) -> None:
        """Add another adapter to a layer.

        Args:
            layer: The layer.
            adapter_name: PEFT's name of the adapter.
            config: Configuration of the adapter.
            path: Full path of the layer in the model.
        """
        raise NotImplementedError

    def _create_and_replace(
        self,
        peft_config: CustomTunerConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str = "",
        **_: Any,
    ) -> None:
        if isinstance(target, CustomTunerLayer):
            self.add_to_layer(target, adapter_name, peft_config, current_key)
            return
        layer = self.create_layer(target, adapter_name, peft_config, current_key)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return int(cast(Any, self.model).config.get_text_config().hidden_size)


def register_tuner(config: type[CustomTunerConfig], model: type[CustomTunerModel]) -> None:
    """Add a tuner to PEFT's registries, under the type name of its configuration."""
    PEFT_TYPE_TO_CONFIG_MAPPING[config.peft_name] = config
    PEFT_TYPE_TO_TUNER_MAPPING[config.peft_name] = model
    PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_name] = model.prefix
