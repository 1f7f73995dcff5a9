"""ZeRO 3's gathering: a weight is made whole when its module needs it, and let go afterwards.

After deepspeed 0.19.8, `partitioned_param_coordinator.py` with a complete trace: what comes next is
teacher_log_probs, so the next weights are fetched ahead, and a weight that is needed again soon stays.
"""

from __future__ import annotations

from planning.memory.allocator import SIZE, SimulatedStorage
from planning.memory.autograd import AutogradSimulator
from planning.memory.tensors import SimulatedParameter, SimulatedTensor

PERSISTS_BELOW = 100_000
"""Elements below which a weight stays whole (`stage3_param_persistence_threshold`)."""
REUSE_ELEMENTS = 1_000_000_000
"""A weight needed again within so many elements stays whole (`stage3_max_reuse_distance`)."""
LIVE_ELEMENTS = 1_000_000_000
"""Elements that fetching ahead may bring to life (`stage3_max_live_parameters`)."""


class Zero3Gather:
    """Watches the modules of one forward and backward pass.

    Args:
        tape: Whose allocator counts.
        ahead: Elements fetched ahead (`stage3_prefetch_bucket_size`).
        evaluated: Whether held-out rows were measured before training. DeepSpeed remembers which
            weights it let go of after which module, and in an evaluation that is all of them.
    """

    def __init__(self, tape: AutogradSimulator, ahead: int, evaluated: bool):
        self.tape = tape
        self.ahead = ahead
        self.evaluated = evaluated
        self.trace: list[SimulatedParameter] = []
        self.recording = True
        self._turn = 0
        self._here = 0
        self._queue = 0
        self._whole: dict[int, SimulatedStorage] = {}
        self._flying: dict[int, _Flight] = {}
        self._live = 0

    def end_forward(self) -> None:
        """The forward pass is over."""
        self._turn = len(self.trace) if self.recording else self._turn

    def rewind(self) -> None:
        """The same passes begin anew, as a model's that is only asked do each time."""
        if not self.recording:
            self._here = self._queue = 0

    def set_trace(self) -> None:
        """From here on the trace is known."""
        self.recording = False
        self._here = self._queue = 0
        self._whole.clear()
        self._flying.clear()
        self._next = _next_uses(self.trace)
        self._far = _elements_before(self.trace)

    def fetch(self, weight: SimulatedParameter) -> None:
        """A module is about to use its weight."""
        if self.recording:
            self.trace.append(weight)
            return
        key = id(weight)
        if key in self._flying:
            self._flying[key].land(self)
            del self._flying[key]
        elif key not in self._whole:
            self._whole[key] = self._allocate(weight.count, weight.dtype)
            self._live += weight.count
        self._here += 1
        self._queue = max(self._queue, self._here)
        self._fetch_ahead()

    def release(self, weight: SimulatedParameter) -> None:
        """A module has used its weight."""
        if self.recording:
            return
        used = self._here - 1
        if not self._stays(used) and self._whole.pop(id(weight), None) is not None:
            self._live -= weight.count

    def _stays(self, used: int) -> bool:
        again = self._next[used]
        if again is None or (self.evaluated and used < self._turn):
            return False
        return self._far[again] - self._far[used + 1] < REUSE_ELEMENTS

    def gathered(self, weight: SimulatedParameter) -> SimulatedTensor | None:
        """The weight made whole by hand, until the result is let go of."""
        if self.recording or id(weight) in self._whole:
            return None
        with self.tape.allocator.counted_as("buffers"):
            return self.tape.new(weight.count, weight.dtype)

    def _fetch_ahead(self) -> None:
        room = min(LIVE_ELEMENTS - self._live, self.ahead)
        found: dict[int, SimulatedParameter] = {}
        while self._queue < len(self.trace) and sum(w.count for w in found.values()) < room:
            weight = self.trace[self._queue]
            self._queue += 1
            if id(weight) not in self._whole and id(weight) not in self._flying:
                found[id(weight)] = weight
        if found:
            flight = _Flight(self, list(found.values()))
            self._flying |= dict.fromkeys(found, flight)
            self._live += sum(w.count for w in found.values())

    def _allocate(self, count: int, dtype: str) -> SimulatedStorage:
        with self.tape.allocator.counted_as("buffers"):
            return SimulatedStorage(self.tape.allocator, count * SIZE[dtype])


class _Flight:
    """Weights on their way in one flat buffer, from which each is copied when the first lands."""

    def __init__(self, gathering: Zero3Gather, weights: list[SimulatedParameter]):
        self.weights = weights
        self.landed = False
        count = sum(w.count for w in weights)
        self.flat = gathering._allocate(count, weights[0].dtype)

    def land(self, gathering: Zero3Gather) -> None:
        """Copy every weight out; the buffer goes with the last reference to the flight."""
        if self.landed:
            return
        self.landed = True
        if len(self.weights) == 1:
            gathering._whole[id(self.weights[0])] = self.flat
            return
        for weight in self.weights:
            gathering._whole[id(weight)] = gathering._allocate(weight.count, weight.dtype)


def _next_uses(trace: list[SimulatedParameter]) -> list[int | None]:
    """For each use, the index of the weight's next one."""
    later: dict[int, int] = {}
    found: list[int | None] = [None] * len(trace)
    for index in range(len(trace) - 1, -1, -1):
        found[index] = later.get(id(trace[index]))
        later[id(trace[index])] = index
    return found


def _elements_before(trace: list[SimulatedParameter]) -> list[int]:
    total = [0]
    for weight in trace:
        total.append(total[-1] + weight.count)
    return total
