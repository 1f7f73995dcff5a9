"""Count of the live bytes on one device by category, and of their peak.

Models the caching allocator of PyTorch (`c10/cuda/CUDACachingAllocator.cpp`) as far as a plan needs
it: sizes are rounded up to a block, and the peak is that of `torch.cuda.max_memory_allocated()`.
Fragmentation is not simulated; `planning/peak_memory.py` adds a share for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

PARTS = (
    *("weights", "models", "gradients", "optimizer"),
    *("activations", "logits", "generation", "buffers"),
)
"""Categories that every allocated byte is counted under; the keys of a plan's `memory_gib`."""

SIZE = {"fp32": 4, "bf16": 2, "fp16": 2, "int64": 8, "bool": 1, "uint8": 1}
"""Bytes of one element of each data type."""


class AllocatorSimulator:
    """Counter of live bytes by category, with the peak of each phase of a step.

    Args:
        block: Allocation granularity in bytes; every size is rounded up to a multiple of it.
    """

    def __init__(self, block: int = 1):
        self.block = block
        self.part = PARTS.index("activations")
        self.live = 0
        self.by_part = [0] * len(PARTS)
        self.peak = 0
        self.at_peak = [0] * len(PARTS)
        self.peaks: dict[str, dict[str, int]] = {}

    def allocate(self, size: int, part: int) -> None:
        """Count an allocation of `size` bytes under the category with index `part`."""
        self.by_part[part] += size
        self.live += size
        if self.live > self.peak:
            self.peak = self.live
            self.at_peak = self.by_part.copy()

    def record_peak(self, name: str) -> None:
        """Store the peak since the last call as that of phase `name`, and start the next phase.

        If a phase occurs several times (one backward pass per micro-batch), the largest is kept.
        """
        earlier = self.peaks.get(name)
        if earlier is None or sum(earlier.values()) < self.peak:
            self.peaks[name] = dict(zip(PARTS, self.at_peak, strict=True))
        self.reset_peak()

    def reset(self) -> None:
        """Discard all recorded phases; live allocations remain."""
        self.peaks.clear()
        self.reset_peak()

    def reset_peak(self) -> None:
        """Set the peak to the bytes that are live now."""
        self.peak, self.at_peak = self.live, self.by_part.copy()

    @contextmanager
    def counted_as(self, part: str) -> Iterator[None]:
        """Count the allocations made inside the context under the category `part`."""
        before, self.part = self.part, PARTS.index(part)
        try:
            yield
        finally:
            self.part = before


class SimulatedStorage:
    """Allocation that is freed when its last Python reference goes, as PyTorch's storages are.

    Args:
        allocator: Counts the bytes, under its current category.
        size: Bytes before rounding.
    """

    __slots__ = ("allocator", "part", "size")

    def __init__(self, allocator: AllocatorSimulator, size: int):
        self.allocator = allocator
        self.size = -(-size // allocator.block) * allocator.block
        self.part = allocator.part
        allocator.allocate(self.size, self.part)

    def recount_as(self, part: str) -> None:
        """Move the bytes to another category, as when an activation becomes a stored gradient."""
        self.allocator.by_part[self.part] -= self.size
        self.part = PARTS.index(part)
        self.allocator.by_part[self.part] += self.size

    def __del__(self) -> None:
        self.allocator.live -= self.size
        self.allocator.by_part[self.part] -= self.size
