"""Adapters in the forward pass, as PEFT writes it."""

from __future__ import annotations

from dataclasses import dataclass

from launch.plan.memory.ops import add, cast, copy, linear, quantized_linear, scale
from launch.plan.memory.tape import Tape, Tensor, Weight
from launch.plan.shape import Shape

_BLOCK, _OUTER_BLOCK = 64, 256
"""bitsandbytes' NF4: weights that share a scale; with double quantization, scales that do."""


@dataclass(frozen=True)
class Lora:
    """What of a LoRA section decides memory.

    Attributes:
        r: Rank.
        modules: Ends of module names; None for every linear map but the head.
        dropout: Whether there is any.
        quantized: Whether the base lies in 4 bits.
        double: Whether its scales are quantized too.
        compute: Type that 4-bit weights are expanded to.
    """

    r: int
    modules: tuple[str, ...] | None = None
    dropout: bool = False
    quantized: bool = False
    double: bool = True
    compute: str = "bf16"

    def targets(self, shape: Shape) -> list[str]:
        """The linear maps of a layer that are adapted."""
        if self.modules is None:
            return list(shape.linears)
        return [n for n in shape.linears if any(n.endswith(m) for m in self.modules)]

    def packed_bytes(self, count: int) -> int:
        """A weight in 4 bits, with its scales."""
        blocks = -(-count // _BLOCK)
        scales = blocks + 4 * (-(-blocks // _OUTER_BLOCK) + 257) if self.double else 4 * blocks
        return count // 2 + scales + 4 * 16


def adapted_linear(
    tape: Tape,
    x: Tensor,
    weight: Weight,
    width: int,
    pair: tuple[Weight, Weight] | None,
    lora: Lora | None,
) -> Tensor:
    """A linear map with what an adapter adds to it."""
    if lora is None:
        return linear(tape, x, weight, width)
    if lora.quantized:
        y = quantized_linear(tape, x, weight, width, lora.compute)
    else:
        y = linear(tape, x, weight, width)
    if pair is None:
        return y
    before = y.dtype
    if lora.quantized:
        y = copy(tape, y)
    x = cast(tape, x, pair[0].dtype)
    if lora.dropout:
        x = _dropout(tape, x)
    change = scale(tape, linear(tape, linear(tape, x, pair[0], width), pair[1], lora.r))
    if lora.quantized:
        change = cast(tape, change, before)
    y = add(tape, y, change)
    return cast(tape, y, before)


def _dropout(tape: Tape, x: Tensor) -> Tensor:
    mask = tape.new(x.count, "bool")
    y = tape.new(x.count, x.dtype)
    return tape.record(y, (x,), lambda g, kept: (tape.new(g.count, g.dtype),), mask)
