"""The squared distance from where a run started, as a part of its loss.

After `training/methods/anchored.py`: a copy of everything that learns is kept in fp32, and autograd
keeps the difference from it, of every weight, until the backward pass.
"""

from __future__ import annotations

from launch.plan.memory.meter import SIZE, Meter, Storage
from launch.plan.memory.ops import cast, join, read, total
from launch.plan.memory.tape import Grads, Tape, Tensor, Weight


def starts(learning: list[Weight], meter: Meter) -> list[Storage]:
    """The copies."""
    with meter.belongs_to("models"):
        return [Storage(meter, weight.count * SIZE["fp32"]) for weight in learning]


def with_distance(tape: Tape, out: Tensor, learning: list[Weight]) -> Tensor:
    """`out`, and the sum of the squared differences from the copies."""
    for weight in learning:
        out = join(tape, out, total(tape, _squared(tape, cast(tape, read(weight), "fp32"))))
    return out


def _squared(tape: Tape, x: Tensor) -> Tensor:
    """`(x - start).square()`: keeps the difference; the three steps back are there at once."""

    def back(g: Tensor, kept: Tensor) -> Grads:
        power, doubled = tape.new(kept.count, "fp32"), tape.new(kept.count, "fp32")
        made = tape.new(kept.count, "fp32")
        del power, doubled
        return (made,)

    difference = tape.record(tape.new(x.count, "fp32"), (x,), lambda g: (g,))
    return tape.record(tape.new(x.count, "fp32"), (difference,), back, difference)
