"""The most bytes that tensors held during a run, as the allocator counts them.

On a GPU the allocator keeps that figure itself. On a CPU the profiler is told of every allocation;
what was not allocated, because weights are read where their file lies in memory, is found among the
tensors that are alive when training has settled.
"""

from __future__ import annotations

import gc
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import TrainerCallback

_COLLECTIVES = (
    *("all_reduce", "reduce", "broadcast"),
    *("all_gather_into_tensor", "reduce_scatter_tensor"),
)
_SETTLED = 1
"""Steps after which everything that stays is there: optimizer states come with the first."""


class AllocatorCallback(TrainerCallback):
    """Watches one training process, from before its model is loaded to the end of training.

    Args:
        done: Is handed what was measured; the process need not go on after that.
    """

    def __init__(self, done: Callable[[dict[str, int]], None]) -> None:
        self._done = done
        self._profile: Any = None
        self._settled_ns = 0
        self._alive: dict[int, int] = {}
        self._mapped: list[range] = []

        if not torch.cuda.is_available():
            self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            self._profile.__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin to count."""
        if state.global_step != _SETTLED:
            return
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            return
        self._alive, self._mapped = _storages(), _mapped()
        self._settled_ns = time.time_ns()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop counting: what saving takes is not a step's."""
        if torch.cuda.is_available():
            peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
            self._done({"peak": peak, "reserved": reserved})
        else:
            self._profile.__exit__(None, None, None)
            self._done(self._counted())

    def _counted(self) -> dict[str, int]:
        """Bytes at the fullest instant between the first step and the end of training."""
        blocks = _Blocks()
        peak = settled = 0
        for when, address, size in _allocations(self._profile):
            if not settled and when > self._settled_ns:
                blocks.forget_unless_in(self._mapped)
                outside = sum(s for at, s in self._alive.items() if not blocks.hold(at))
                blocks.live += outside
                peak = settled = blocks.live
            if size > 0:
                blocks.take(address, size)
            else:
                blocks.free(address)
            peak = max(peak, blocks.live)
        return {"peak": peak, "settled": settled}


class _Blocks:
    """What is allocated, by where it lies.

    The profiler hears nothing of what other threads free, such as a buffer that was sent. A block
    was freed if its pages are gone, or if something new lies in its place.
    """

    def __init__(self) -> None:
        self.live = 0
        self._starts: list[int] = []
        self._sizes: dict[int, int] = {}

    def take(self, address: int, size: int) -> None:
        """Note a new block; those it lies over are gone."""
        first = bisect_right(self._starts, address)
        if first and self.hold(address):
            first -= 1
        last = bisect_left(self._starts, address + size)
        for gone in self._starts[first:last]:
            self.live -= self._sizes.pop(gone)
        self._starts[first:last] = [address]
        self._sizes[address] = size
        self.live += size

    def free(self, address: int) -> None:
        """Forget a block; one that was taken before there was a profiler is not known."""
        size = self._sizes.pop(address, None)
        if size is not None:
            self.live -= size
            del self._starts[bisect_left(self._starts, address)]

    def forget_unless_in(self, mapped: list[range]) -> None:
        """Forget blocks whose first page is not the process's any more."""
        starts = [pages.start for pages in mapped]
        for address in list(self._starts):
            index = bisect_right(starts, address) - 1
            if index < 0 or address not in mapped[index]:
                self.free(address)

    def hold(self, address: int) -> bool:
        """Whether an address lies in a block."""
        index = bisect_right(self._starts, address) - 1
        return index >= 0 and address < self._starts[index] + self._sizes[self._starts[index]]


def _mapped() -> list[range]:
    """The addresses that the process has, in order."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = (line.split()[0].split("-") for line in lines)
    return [range(int(start, 16), int(end, 16)) for start, end in spans]


def let_sender_go_first(seconds: float = 0.005) -> None:
    """Have collectives return after the thread that sent has let go of what it sent.

    Else it may be that thread that frees a buffer, which the profiler would not hear of.
    """
    for name in _COLLECTIVES:
        setattr(torch.distributed, name, _patient(getattr(torch.distributed, name), seconds))


def _patient(collective: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    @wraps(collective)
    def waiting(*arguments: Any, **options: Any) -> Any:
        found = collective(*arguments, **options)
        time.sleep(seconds)
        return found

    return waiting


def _storages() -> dict[int, int]:
    """Address and size of every tensor's bytes."""
    found = {}
    for thing in gc.get_objects():
        # Of its type: to ask a lazily loaded module what it is would load it.
        if issubclass(type(thing), torch.Tensor):
            for tensor in (thing, thing.grad if thing.is_leaf else None):
                if tensor is None or tensor.device.type != "cpu":
                    continue
                storage = tensor.untyped_storage()
                found[storage.data_ptr()] = storage.nbytes()
    found.pop(0, None)
    return found


def _allocations(profiled: Any) -> list[tuple[int, int, int]]:
    """When, where and how much was allocated; freed where it is negative."""
    from torch._C._profiler import _EventType

    found = []
    waiting = list(profiled.profiler.kineto_results.experimental_event_tree())
    while waiting:
        node = waiting.pop()
        waiting += node.children
        if node.tag == _EventType.Allocation:
            fields = node.extra_fields
            found.append((node.start_time_ns, fields.ptr, fields.alloc_size))
    found.sort(key=lambda event: event[0])
    return found
