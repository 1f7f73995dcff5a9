"""Counts the bytes that are alive on one device, by what they belong to, and their peak."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

PARTS = (
    *("weights", "models", "gradients", "optimizer"),
    *("activations", "logits", "generation", "buffers"),
)
"""What a byte may belong to."""

SIZE = {"fp32": 4, "bf16": 2, "fp16": 2, "int64": 8, "bool": 1, "uint8": 1}
"""Bytes of an element."""


class AllocatorSimulator:
    """What is alive on one device, by part, and the most there was.

    Args:
        block: Allocations are rounded up to a multiple of it, as the device's allocator does.
    """

    def __init__(self, block: int = 1):
        self.block = block
        self.part = PARTS.index("activations")
        self.live = 0
        self.by_part = [0] * len(PARTS)
        self.peak = 0
        self.at_peak = [0] * len(PARTS)
        self.moments: dict[str, dict[str, int]] = {}

    def take(self, size: int, part: int) -> None:
        """Note an allocation."""
        self.by_part[part] += size
        self.live += size
        if self.live > self.peak:
            self.peak = self.live
            self.at_peak = self.by_part.copy()

    def moment(self, name: str) -> None:
        """Name what was since the last moment; of several with one name the largest stays."""
        known = self.moments.get(name)
        if known is None or sum(known.values()) < self.peak:
            self.moments[name] = dict(zip(PARTS, self.at_peak, strict=True))
        self.peak, self.at_peak = self.live, self.by_part.copy()

    def forget(self) -> None:
        """Begin anew with what is alive now."""
        self.moments.clear()
        self.restart()

    def restart(self) -> None:
        """Measure the next moment from what is alive now."""
        self.peak, self.at_peak = self.live, self.by_part.copy()

    @contextmanager
    def belongs_to(self, part: str) -> Iterator[None]:
        """Count what is allocated meanwhile as `part`."""
        before, self.part = self.part, PARTS.index(part)
        try:
            yield
        finally:
            self.part = before


class SimulatedStorage:
    """Bytes that live while anything refers to them."""

    __slots__ = ("meter", "part", "size")

    def __init__(self, meter: AllocatorSimulator, size: int):
        self.meter = meter
        self.size = -(-size // meter.block) * meter.block
        self.part = meter.part
        meter.take(self.size, self.part)

    def becomes(self, part: str) -> None:
        """Count it as another part from now on."""
        self.meter.by_part[self.part] -= self.size
        self.part = PARTS.index(part)
        self.meter.by_part[self.part] += self.size

    def __del__(self) -> None:
        self.meter.live -= self.size
        self.meter.by_part[self.part] -= self.size
