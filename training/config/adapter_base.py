"""Base class of the sections of adapters, and the keys that several kinds share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from training.config.base import ConfigSection


def as_modules(value: Any) -> Any:
    """Return one module name as a tuple; the parser of keys that name modules."""
    return (value,) if isinstance(value, str) and value != "all-linear" else value


def _as_layers(value: Any) -> Any:
    return (value,) if isinstance(value, int) else value


TargetModules = Annotated[
    Literal["all-linear"] | tuple[str, ...],
    BeforeValidator(as_modules, json_schema_input_type=str | tuple[str, ...]),
]
ModuleNames = Annotated[
    tuple[str, ...], BeforeValidator(as_modules, json_schema_input_type=str | tuple[str, ...])
]
"""Names of modules; one of them may be written without a list."""
_LAYER_INDEX = {"type": "integer", "minimum": 0}
_LAYERS = {"anyOf": [_LAYER_INDEX, {"type": "array", "items": _LAYER_INDEX, "minItems": 1}]}
LayerIndices = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    BeforeValidator(_as_layers),
    Field(min_length=1),
    WithJsonSchema(_LAYERS),
]


@dataclass(frozen=True)
class Widths:
    """Widths of a model that determine the size of an adapter.

    Attributes:
        layers: Transformer layers.
        hidden: Width of the residual stream.
        queries: Width of all queries together.
        keys: Width of all keys together.
        intermediate: Width of the MLP.
    """

    layers: int
    hidden: int
    queries: int
    keys: int
    intermediate: int

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Return inputs and outputs of each linear layer of a layer, by its usual name."""
        h, q, k, i = self.hidden, self.queries, self.keys, self.intermediate
        mlp = {"gate_proj": (h, i), "up_proj": (h, i), "down_proj": (i, h)}
        return {"q_proj": (h, q), "k_proj": (h, k), "v_proj": (h, k), "o_proj": (q, h), **mlp}


class AdapterSection(ConfigSection):
    """Section of one kind of adapter.

    The planner and the checks read what an adapter needs from its class.
    """

    impl: ClassVar[str]
    """`module:function` that adds it to a model; imported only when a run starts."""
    soft: ClassVar[bool] = False
    """True for soft prompts, which put virtual tokens before each row."""

    @property
    def mergeable(self) -> bool:
        """True if the adapter can be merged into the weights of the base."""
        return not self.soft

    @property
    def quantized(self) -> bool:
        """True if the base is loaded in 4 bits."""
        return False

    @property
    def learns(self) -> bool:
        """True if the adapter has trainable parameters."""
        return True

    def num_trained(self, model: Widths) -> int:
        """Return the number of trainable parameters on a model."""
        raise NotImplementedError


class LayerSelection(ConfigSection):
    """Keys of the kinds that PEFT can limit to some layers."""

    layers_to_transform: LayerIndices | None = None
    """Layers that get an adapter, counted from 0: `3` or `[20, 21, 22, 23]`; all if not set."""
    layers_pattern: ModuleNames = ()
    """Names of the module lists that the layers are counted in, such as `[layers]`, for a model
    with several; the first number in a module's name if not set."""

    def num_layers(self, layers: int) -> int:
        """Return how many of a model's layers get an adapter."""
        chosen = self.layers_to_transform
        return layers if chosen is None else sum(layer < layers for layer in set(chosen))
