"""What our own tuners have in common: to PEFT they are tuners like any other.

A tuner is a configuration (what a folder says of an adapter), a layer (a module of the model with
adapters on it) and a model (which puts the layers in). `known_to_peft` tells PEFT of the three; it
then loads folders of that type with `PeftModel.from_pretrained`.
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
"""By the name in a job."""


@dataclass
class CustomTunerConfig(PeftConfig):
    """What an adapter's folder says about it.

    Attributes:
        target_modules: Names of the modules it is on, or ends of such.
        modules_to_save: None; PEFT asks for it.
    """

    peft_name: ClassVar[str]

    target_modules: list[str] | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        """Set the type that PEFT finds the tuner by."""
        super().__post_init__()
        self.peft_type = self.peft_name


class CustomTunerLayer(nn.Module, BaseTunerLayer):
    """A module of the model, with adapters.

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

    def settle(self, adapter_name: str, config: CustomTunerConfig) -> None:
        """Bring a new adapter to the device of its layer, and let the active ones learn."""
        layer = cast(Any, self)  # PEFT's part has no types
        layer._move_adapter_to_device_of_base_layer(adapter_name)
        layer.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def active_here(self) -> list[str]:
        """Return the active adapters that this layer has."""
        names = cast("list[str]", self.active_adapters)
        first = cast(nn.ModuleDict, getattr(self, self.adapter_layer_names[0]))
        return [name for name in names if name in first]

    def __getattr__(self, name: str) -> Any:
        """Look up in the module what the layers around it expect of it."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(super().__getattr__("base_layer"), name)


class CustomTunerModel(BaseTuner):
    """A model whose layers are `OwnLayer`s."""

    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012  (PEFT's attribute)

    def new_layer(
        self, target: nn.Module, adapter_name: str, config: Any, path: str
    ) -> CustomTunerLayer:
        """Return a module with its first adapter on it.

        Args:
            target: The module.
            adapter_name: PEFT's name of the adapter.
            config: Of the adapter.
            path: Whole name of the module in the model.
        """
        raise NotImplementedError

    def next_adapter(self, layer: Any, adapter_name: str, config: Any, path: str) -> None:
        """Put another adapter on a layer; see `new_layer`."""
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
            self.next_adapter(target, adapter_name, peft_config, current_key)
            return
        layer = self.new_layer(target, adapter_name, peft_config, current_key)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return int(cast(Any, self.model).config.get_text_config().hidden_size)


def known_to_peft(config: type[CustomTunerConfig], model: type[CustomTunerModel]) -> None:
    """Tell PEFT of a tuner."""
    PEFT_TYPE_TO_CONFIG_MAPPING[config.peft_name] = config
    PEFT_TYPE_TO_TUNER_MAPPING[config.peft_name] = model
    PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_name] = model.prefix
