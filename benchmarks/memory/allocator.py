"""The most bytes that tensors held during a run, as the allocator counts them.

On a GPU the allocator keeps that figure itself. On a CPU the profiler is told of every allocation;
what was not allocated, because weights are read where their file lies in memory, is found among the
tensors that are alive when training has settled.
"""

from __future__ import annotations

import gc
import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import TrainerCallback

_SETTLED = 1
"""Steps after which everything that stays is there: optimizer states come with the first."""


class Watch(TrainerCallback):
    """Watches one training process, from before its model is loaded to the end of training.

    Args:
        done: Is handed what was measured; the process need not go on after that.
    """

    def __init__(self, done: Callable[[dict[str, int]], None]) -> None:
        self._done = done
        self._profile: Any = None
        self._settled_ns = 0
        self._alive: dict[int, int] = {}

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
        self._alive = _storages()
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
        known: dict[int, int] = {}
        live = peak = 0
        counted = 0
        for when, address, size in _allocations(self._profile):
            if not counted and when > self._settled_ns:
                counted = live + _outside(self._alive, known)
                live = peak = counted
            if size > 0:
                known[address] = size
                live += size
            elif known.pop(address, None) is not None:
                live += size
            peak = max(peak, live)
        return {"peak": peak, "settled": counted}


def _outside(alive: dict[int, int], allocated: dict[int, int]) -> int:
    """Bytes of what is alive and lies in no block that was allocated."""
    blocks = sorted(allocated.items())
    starts = [start for start, _ in blocks]
    found = 0
    for address, size in alive.items():
        index = bisect_right(starts, address) - 1
        if index < 0 or address >= sum(blocks[index]):
            found += size
    return found


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
