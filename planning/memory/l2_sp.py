"""L2-SP penalty (arXiv:1802.01483): the squared distance of the weights from their start.

Models `training/methods/common/regularized.py`: an fp32 copy of every trained weight is kept, and
autograd saves the difference from it for each weight until the backward pass.
"""

from __future__ import annotations

from planning.memory.allocator import SIZE, AllocatorSimulator, SimulatedStorage
from planning.memory.autograd import AutogradSimulator
from planning.memory.ops import as_tensor, cast, cat, reduce_sum
from planning.memory.tensors import Grads, SimulatedParameter, SimulatedTensor


def initial_copies(
    trainable: list[SimulatedParameter], allocator: AllocatorSimulator
) -> list[SimulatedStorage]:
    """Allocate fp32 copies of the trained weights."""
    with allocator.counted_as("models"):
        return [SimulatedStorage(allocator, weight.count * SIZE["fp32"]) for weight in trainable]


def add_l2_penalty(
    tape: AutogradSimulator, out: SimulatedTensor, trainable: list[SimulatedParameter]
) -> SimulatedTensor:
    """Append the squared distances of the trained weights from their copies to `out`.

    Args:
        tape: Records the operations.
        out: Inputs of the loss.
        trainable: The trained weights.

    Returns:
        The concatenation, as a stand-in for the sum: it keeps the same tensors alive.
    """
    for weight in trainable:
        out = cat(
            tape, out, reduce_sum(tape, _squared(tape, cast(tape, as_tensor(weight), "fp32")))
        )
    return out


def _squared(tape: AutogradSimulator, x: SimulatedTensor) -> SimulatedTensor:
    """Return `(x - start).square()`, which saves the difference.

    Its backward pass computes `g * (2 * x.pow(1))`: three tensors of the same size are live at
    once.
    """

    def backward(g: SimulatedTensor, saved: SimulatedTensor) -> Grads:
        power, doubled = tape.new(saved.count, "fp32"), tape.new(saved.count, "fp32")
        made = tape.new(saved.count, "fp32")
        del power, doubled
        return (made,)

    difference = tape.record_op(tape.new(x.count, "fp32"), (x,), lambda g: (g,))
    return tape.record_op(tape.new(x.count, "fp32"), (difference,), backward, difference)
