"""Activation checkpointing: saved tensors are dropped and recomputed in the backward pass.

Models the non-reentrant `torch.utils.checkpoint` (`_CheckpointFrame`, `_Holder`): hooks replace
each saved tensor of a block by a placeholder, and the first node of the block that needs one runs
the block again and stops early once all of them exist.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from planning.memory.tensors import SimulatedTensor


class Tape(Protocol):
    """Part of the autograd simulator that recomputation uses."""

    pack_hook: Callable[[SimulatedTensor], Any]

    def autocasting(self) -> AbstractContextManager[None]:
        """Cache the casts of weights until the outermost context ends."""


class _RecomputeDone(Exception):  # noqa: N818 (PyTorch's `_StopRecomputationError`: no error)
    """Signal that all saved tensors of a block have been recomputed."""


class CheckpointFrame:
    """Block whose saved tensors are recomputed in the backward pass.

    Args:
        tape: Runs the block.
        function: The block, applied to its input.
    """

    def __init__(self, tape: Tape, function: Callable[[], SimulatedTensor]):
        self.tape = tape
        self.function = function
        self.num_saved = 0
        self.recomputed: dict[int, SimulatedTensor] = {}
        self.computed = False

    def pack(self, tensor: SimulatedTensor) -> RecomputedTensor:
        """Return a placeholder for a saved tensor; the tensor itself is not kept."""
        self.num_saved += 1
        return RecomputedTensor(self, self.num_saved - 1)

    def recompute(self) -> None:
        """Run the block again, up to the last tensor that was saved in the forward pass."""
        self.computed = True
        tape, position = self.tape, 0

        def pack(tensor: SimulatedTensor) -> Any:
            nonlocal position
            if position in saved:
                self.recomputed[position] = tensor
            position += 1
            if position == self.num_saved:
                raise _RecomputeDone
            return tensor

        saved = range(self.num_saved)
        outer, tape.pack_hook = tape.pack_hook, pack
        try:
            with tape.autocasting():
                self.function()
        except _RecomputeDone:
            pass
        finally:
            tape.pack_hook = outer


class RecomputedTensor:
    """Placeholder for a saved tensor; the recomputed tensor is freed with its placeholder."""

    __slots__ = ("frame", "index")

    def __init__(self, frame: CheckpointFrame, index: int):
        self.frame = frame
        self.index = index

    def unpack(self) -> SimulatedTensor:
        """Return the recomputed tensor."""
        return self.frame.recomputed[self.index]

    def __del__(self) -> None:
        self.frame.recomputed.pop(self.index, None)
