"""Parameter gathering of ZeRO 3 (arXiv:1910.02054).

Models `runtime/zero/partitioned_param_coordinator.py` of deepspeed 0.19.8 with a complete trace.
The first forward and backward pass records the order in which modules use their weights. After it,
weights are prefetched in that order, and a weight that is needed again soon is not released.
"""

from __future__ import annotations

from planning.memory.allocator import SIZE, SimulatedStorage
from planning.memory.autograd import AutogradSimulator
from planning.memory.tensors import SimulatedParameter, SimulatedTensor

PERSISTS_BELOW = 100_000
"""Elements below which a weight stays gathered (`stage3_param_persistence_threshold`)."""
REUSE_ELEMENTS = 1_000_000_000
"""Distance in elements below which a weight stays gathered until its next use
(`stage3_max_reuse_distance`)."""
LIVE_ELEMENTS = 1_000_000_000
"""Elements that may be gathered at once before prefetching pauses
(`stage3_max_live_parameters`)."""


class Zero3Gather:
    """Gather hook that fetches, prefetches and releases weights along a recorded trace.

    Args:
        tape: Its allocator counts the gathered weights.
        ahead: Elements to prefetch (`stage3_prefetch_bucket_size`).
        evaluated: True if held-out rows were evaluated before training. DeepSpeed caches which
            weights to release after which module, and without a backward pass that is every
            weight: after an evaluation, the forward pass reuses none.
    """

    def __init__(self, tape: AutogradSimulator, ahead: int, evaluated: bool):
        self.tape = tape
        self.ahead = ahead
        self.evaluated = evaluated
        self.trace: list[SimulatedParameter] = []
        self.recording = True
        self._forward_end = 0
        self._position = 0
        self._prefetched = 0
        self._gathered: dict[int, SimulatedStorage] = {}
        self._in_flight: dict[int, _CoalescedGather] = {}
        self._live = 0

    def end_forward(self) -> None:
        """Mark the end of the forward pass in the trace."""
        self._forward_end = len(self.trace) if self.recording else self._forward_end

    def rewind(self) -> None:
        """Return to the start of the trace; a frozen model does so before each forward pass."""
        if not self.recording:
            self._position = self._prefetched = 0

    def set_trace(self) -> None:
        """End the recording and prefetch along the trace from now on."""
        self.recording = False
        self._position = self._prefetched = 0
        self._gathered.clear()
        self._in_flight.clear()
        self._next_use = _next_uses(self.trace)
        self._offsets = _elements_before(self.trace)

    def fetch(self, weight: SimulatedParameter) -> None:
        """Gather a weight before its module runs, unless it was prefetched or is still there."""
        if self.recording:
            self.trace.append(weight)
            return
        key = id(weight)
        if key in self._in_flight:
            self._in_flight[key].complete(self)
            del self._in_flight[key]
        elif key not in self._gathered:
            self._gathered[key] = self._allocate(weight.count, weight.dtype)
            self._live += weight.count
        self._position += 1
        self._prefetched = max(self._prefetched, self._position)
        self._fetch_ahead()

    def release(self, weight: SimulatedParameter) -> None:
        """Free a weight after its module, unless its next use is near."""
        if self.recording:
            return
        used = self._position - 1
        if not self._is_reused_soon(used) and self._gathered.pop(id(weight), None) is not None:
            self._live -= weight.count

    def _is_reused_soon(self, used: int) -> bool:
        again = self._next_use[used]
        if again is None or (self.evaluated and used < self._forward_end):
            return False
        return self._offsets[again] - self._offsets[used + 1] < REUSE_ELEMENTS

    def gathered(self, weight: SimulatedParameter) -> SimulatedTensor | None:
        """Gather a weight outside a module; the caller frees it by dropping the result."""
        if self.recording or id(weight) in self._gathered:
            return None
        with self.tape.allocator.counted_as("buffers"):
            return self.tape.new(weight.count, weight.dtype)

    def _fetch_ahead(self) -> None:
        room = min(LIVE_ELEMENTS - self._live, self.ahead)
        batch: dict[int, SimulatedParameter] = {}
        while self._prefetched < len(self.trace) and sum(w.count for w in batch.values()) < room:
            weight = self.trace[self._prefetched]
            self._prefetched += 1
            if id(weight) not in self._gathered and id(weight) not in self._in_flight:
                batch[id(weight)] = weight
        if batch:
            gather = _CoalescedGather(self, list(batch.values()))
            self._in_flight |= dict.fromkeys(batch, gather)
            self._live += sum(w.count for w in batch.values())

    def _allocate(self, count: int, dtype: str) -> SimulatedStorage:
        with self.tape.allocator.counted_as("buffers"):
            return SimulatedStorage(self.tape.allocator, count * SIZE[dtype])


class _CoalescedGather:
    """Coalesced all-gather of several weights into one flat buffer.

    When the first weight is needed, all are copied out of the buffer. The buffer is freed with the
    last of them, because each pending weight refers to this object.
    """

    def __init__(self, gathering: Zero3Gather, weights: list[SimulatedParameter]):
        self.weights = weights
        self.completed = False
        count = sum(w.count for w in weights)
        self.flat = gathering._allocate(count, weights[0].dtype)

    def complete(self, gathering: Zero3Gather) -> None:
        """Copy every weight out of the buffer; a single weight keeps the buffer itself."""
        if self.completed:
            return
        self.completed = True
        if len(self.weights) == 1:
            gathering._gathered[id(self.weights[0])] = self.flat
            return
        for weight in self.weights:
            gathering._gathered[id(weight)] = gathering._allocate(weight.count, weight.dtype)


def _next_uses(trace: list[SimulatedParameter]) -> list[int | None]:
    """Return for each use in the trace the index of the next use of the same weight."""
    later: dict[int, int] = {}
    following: list[int | None] = [None] * len(trace)
    for index in range(len(trace) - 1, -1, -1):
        following[index] = later.get(id(trace[index]))
        later[id(trace[index])] = index
    return following


def _elements_before(trace: list[SimulatedParameter]) -> list[int]:
    total = [0]
    for weight in trace:
        total.append(total[-1] + weight.count)
    return total
