"""Peak tensor memory of a run, as the allocator counts it.

On a GPU, the allocator records the peak itself. On a CPU, the profiler records every allocation.
Weights that are memory-mapped from their file were never allocated; they are found among the
tensors that are alive after the first step.
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
"""Steps after which all persistent tensors exist: the first step creates the optimizer states."""


class AllocatorCallback(TrainerCallback):
    """Callback that measures one training process, from model loading to the end of training.

    Args:
        done: Receives the measurement; it may end the process.
    """

    def __init__(self, done: Callable[[dict[str, int]], None]) -> None:
        self._done = done
        self._profile: Any = None
        self._loaded_ns = self._settled_ns = 0
        self._alive: dict[int, int] = {}
        self._mapped: list[range] = []

        if not torch.cuda.is_available():
            self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            self._profile.__enter__()

    def on_init_end(self, *_: Any, **__: Any) -> None:
        """Note that the models are loaded."""
        self._loaded_ns = time.time_ns()

    def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Start measuring after the first step."""
        if state.global_step != _SETTLED:
            return
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            return
        self._alive, self._mapped = _storages(), _mapped()
        self._settled_ns = time.time_ns()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop measuring: memory of saving is not memory of a step."""
        if torch.cuda.is_available():
            peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
            free, whole = torch.cuda.mem_get_info()
            # The context, cuBLAS and NCCL; other processes too, so nothing else may use the GPU.
            outside = max(0, whole - free - torch.cuda.memory_reserved())
            self._done({"peak": peak, "reserved": reserved, "outside": outside})
        else:
            self._profile.__exit__(None, None, None)
            self._done(self._counted())

    def _counted(self) -> dict[str, int]:
        """Return the peak bytes between the first step and the end of training."""
        blocks = AllocatedBlocks()
        peak = settled = 0
        loading: set[int] = set()
        for when, address, size in _allocations(self._profile):
            if not settled and when > self._settled_ns:
                blocks.discard_unmapped(self._mapped)
                # Loading a mixture of experts joins the experts of a file in threads. Every tensor
                # of a loaded model is an object of Python: what is none has been freed.
                for stale in loading.difference(self._alive):
                    blocks.free(stale)
                outside = sum(s for at, s in self._alive.items() if not blocks.contains(at))
                blocks.live += outside
                peak = settled = blocks.live
            if size > 0:
                blocks.add(address, size)
                (loading.add if when < self._loaded_ns else loading.discard)(address)
            else:
                blocks.free(address)
            peak = max(peak, blocks.live)
        return {"peak": peak, "settled": settled}


class AllocatedBlocks:
    """Allocated blocks by address.

    The profiler does not record what other threads free, such as the buffer of a collective. A
    block is known to be free when its pages are unmapped or a new block overlaps it.
    """

    def __init__(self) -> None:
        self.live = 0
        self._starts: list[int] = []
        self._sizes: dict[int, int] = {}

    def add(self, address: int, size: int) -> None:
        """Record a new block and drop the blocks it overlaps."""
        first = bisect_right(self._starts, address)
        if first and self.contains(address):
            first -= 1
        last = bisect_left(self._starts, address + size)
        for overlapped in self._starts[first:last]:
            self.live -= self._sizes.pop(overlapped)
        self._starts[first:last] = [address]
        self._sizes[address] = size
        self.live += size

    def free(self, address: int) -> None:
        """Drop a block; one that was allocated before the profiler started is unknown."""
        size = self._sizes.pop(address, None)
        if size is not None:
            self.live -= size
            del self._starts[bisect_left(self._starts, address)]

    def discard_unmapped(self, mapped: list[range]) -> None:
        """Drop blocks whose first page the process no longer has."""
        starts = [pages.start for pages in mapped]
        for address in list(self._starts):
            index = bisect_right(starts, address) - 1
            if index < 0 or address not in mapped[index]:
                self.free(address)

    def contains(self, address: int) -> bool:
        """Return whether an address lies in a block."""
        index = bisect_right(self._starts, address) - 1
        return index >= 0 and address < self._starts[index] + self._sizes[self._starts[index]]


def _mapped() -> list[range]:
    """Return the mapped address ranges of the process, in ascending order."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = (line.split()[0].split("-") for line in lines)
    return [range(int(start, 16), int(end, 16)) for start, end in spans]


def delay_collectives(seconds: float = 0.005) -> None:
    """Let collectives return only after the sending thread has released its buffer.

    Otherwise that thread may free the buffer last, which the profiler would not record.
    """
    for name in _COLLECTIVES:
        setattr(torch.distributed, name, _delayed(getattr(torch.distributed, name), seconds))


def _delayed(collective: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    @wraps(collective)
    def delayed(*arguments: Any, **options: Any) -> Any:
        result = collective(*arguments, **options)
        time.sleep(seconds)
        return result

    return delayed


def _storages() -> dict[int, int]:
    """Return the size of every CPU tensor's storage by its address."""
    sizes = {}
    for item in gc.get_objects():
        # Not isinstance: that reads `__class__`, which would load a lazily imported module.
        if issubclass(type(item), torch.Tensor):
            for tensor in (item, item.grad if item.is_leaf else None):
                if tensor is None or tensor.device.type != "cpu":
                    continue
                storage = tensor.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
    sizes.pop(0, None)  # empty storages
    return sizes


def _allocations(profiled: Any) -> list[tuple[int, int, int]]:
    """Return time, address and size of every allocation; a negative size is a free."""
    from torch._C._profiler import _EventType

    events = []
    pending = list(profiled.profiler.kineto_results.experimental_event_tree())
    while pending:
        node = pending.pop()
        pending += node.children
        if node.tag == _EventType.Allocation:
            fields = node.extra_fields
            events.append((node.start_time_ns, fields.ptr, fields.alloc_size))
    events.sort(key=lambda event: event[0])
    return events
