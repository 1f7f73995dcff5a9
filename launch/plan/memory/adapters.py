"""Adapters in the forward pass, as PEFT and `training/adapters` write them."""

from __future__ import annotations

from dataclasses import dataclass

from launch.plan.memory.ops import (
    activation,
    add,
    biased,
    cast,
    copy,
    linear,
    mul,
    quantized_linear,
    read,
    scale,
)
from launch.plan.memory.tape import Tape, Tensor, Weight
from launch.plan.shape import Shape

_BLOCK, _OUTER_BLOCK = 64, 256
"""bitsandbytes' NF4: weights that share a scale; with double quantization, scales that do."""


@dataclass(frozen=True)
class FourBit:
    """A base that rests in 4 bits.

    Attributes:
        double: Whether its scales are quantized too.
        compute: Type that weights are expanded to for each product.
        widens: Whether what is not in 4 bits is made fp32 (`prepare_model_for_kbit_training`).
    """

    double: bool
    compute: str
    widens: bool

    def packed_bytes(self, count: int) -> int:
        """A weight with its scales."""
        blocks = -(-count // _BLOCK)
        scales = blocks + 4 * (-(-blocks // _OUTER_BLOCK) + 257) if self.double else 4 * blocks
        return count // 2 + scales + 4 * 16


@dataclass(frozen=True)
class Lora:
    """Low-rank updates of linear maps.

    Attributes:
        r: Rank.
        modules: Ends of module names; None for every linear map but the head.
        dropout: Whether there is any.
    """

    r: int
    modules: tuple[str, ...] | None = None
    dropout: bool = False

    def targets(self, shape: Shape) -> list[str]:
        """The linear maps of a layer that are adapted."""
        if self.modules is None:
            return list(shape.linears)
        return [n for n in shape.linears if any(n.endswith(m) for m in self.modules)]


@dataclass(frozen=True)
class Bottleneck:
    """Small networks behind or beside sublayers.

    Attributes:
        size: Their width.
        after: The sublayers that have one: `attention`, `mlp`.
        parallel: Whether they read what the sublayer reads.
    """

    size: int
    after: tuple[str, ...]
    parallel: bool


@dataclass(frozen=True)
class SoftPrompt:
    """Trained vectors before a row, or before its keys and values.

    Attributes:
        tokens: How many.
        learned: Weights that are trained, the network behind the vectors included.
        prefix: Whether they stand before keys and values.
    """

    tokens: int
    learned: int
    prefix: bool


@dataclass(frozen=True)
class Factors:
    """IA3: linear maps whose outputs, or inputs, are multiplied by one learned factor per channel.

    Attributes:
        modules: Ends of module names.
        inputs: Those of them whose inputs are multiplied.
    """

    modules: tuple[str, ...]
    inputs: tuple[str, ...]

    def targets(self, shape: Shape) -> dict[str, bool]:
        """The linear maps of a layer that are adapted, and whether at their input."""
        return {
            name: any(name.endswith(m) for m in self.inputs)
            for name in shape.linears
            if any(name.endswith(m) for m in self.modules)
        }


Adapter = Lora | Bottleneck | SoftPrompt | Factors


def adapted_linear(
    tape: Tape,
    x: Tensor,
    weight: Weight,
    width: int,
    pair: tuple[Weight, Weight] | None,
    lora: Lora | None,
    four_bit: FourBit | None,
) -> Tensor:
    """A linear map, from 4 bits where it rests so, with what LoRA adds to it."""
    if four_bit is not None:
        y = quantized_linear(tape, x, weight, width, four_bit.compute)
    else:
        y = linear(tape, x, weight, width)
    if lora is None or pair is None:
        return y
    before = y.dtype
    if four_bit is not None:
        y = copy(tape, y)
    if four_bit is None or not (tape.autocast and tape.device == "cuda"):
        x = cast(tape, x, pair[0].dtype)
    if lora.dropout:
        x = _dropout(tape, x)
    change = scale(tape, linear(tape, linear(tape, x, pair[0], width), pair[1], lora.r))
    if four_bit is not None:
        change = cast(tape, change, before)
    y = add(tape, y, change)
    return cast(tape, y, before)


def scaled_linear(
    tape: Tape, x: Tensor, weight: Weight, width: int, factors: Weight, four_bit: FourBit | None
) -> Tensor:
    """A linear map with IA3's factors on its input, where they are as wide as that, or output."""
    before = x.dtype
    if factors.count == width:
        x = cast(tape, mul(tape, x, read(factors)), before)
    y = adapted_linear(tape, x, weight, width, None, None, four_bit)
    return y if factors.count == width else cast(tape, mul(tape, y, read(factors)), y.dtype)


def bottleneck(
    tape: Tape, adapter: Bottleneck, pair: tuple[Weight, ...], before: Tensor, after: Tensor
) -> Tensor:
    """`after + s * up(a(down(read)))`, where `read` is what the sublayer says or what it reads."""
    down, down_bias, up, up_bias = pair
    read = before if adapter.parallel else after
    inner = biased(tape, linear(tape, cast(tape, read, down.dtype), down, down.width), down_bias)
    change = scale(tape, biased(tape, linear(tape, activation(tape, inner), up, up.width), up_bias))
    return add(tape, after, cast(tape, change, after.dtype))


def _dropout(tape: Tape, x: Tensor) -> Tensor:
    """`x * mask / (1 - p)`; a CPU makes the mask of the input's type."""
    mask = tape.new(x.count, "bool" if tape.device == "cuda" else x.dtype)
    if tape.device == "cuda":
        y = tape.new(x.count, x.dtype)
        return tape.record(y, (x,), lambda g, kept: (tape.new(g.count, g.dtype),), mask)
    return mul(tape, x, mask)
