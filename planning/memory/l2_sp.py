"""The squared distance from where a run started, as a part of its loss.

After `training/methods/common/regularized.py`: a copy of everything that learns is kept in fp32, and autograd
keeps the difference from it, of every weight, until the backward pass.
"""

from __future__ import annotations

from planning.memory.allocator import SIZE, AllocatorSimulator, SimulatedStorage
from planning.memory.autograd import AutogradSimulator, Grads, SimulatedParameter, SimulatedTensor
from planning.memory.ops import cast, join, read, total


def starts(learning: list[SimulatedParameter], meter: AllocatorSimulator) -> list[SimulatedStorage]:
    """The copies."""
    with meter.belongs_to("models"):
        return [SimulatedStorage(meter, weight.count * SIZE["fp32"]) for weight in learning]


def with_distance(
    tape: AutogradSimulator, out: SimulatedTensor, learning: list[SimulatedParameter]
) -> SimulatedTensor:
    """`out`, and the sum of the squared differences from the copies."""
    for weight in learning:
        out = join(tape, out, total(tape, _squared(tape, cast(tape, read(weight), "fp32"))))
    return out


def _squared(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """`(x - start).square()`: keeps the difference; the three steps back are there at once."""

    def back(g: SimulatedTensor, kept: SimulatedTensor) -> Grads:
        power, doubled = tape.new(kept.count, "fp32"), tape.new(kept.count, "fp32")
        made = tape.new(kept.count, "fp32")
        del power, doubled
        return (made,)

    difference = tape.record(tape.new(x.count, "fp32"), (x,), lambda g: (g,))
    return tape.record(tape.new(x.count, "fp32"), (difference,), back, difference)
