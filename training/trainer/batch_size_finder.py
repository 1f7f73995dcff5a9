"""Search for the micro-batch size that fits the device, with the model's longest possible rows.

The result decides how a step is divided into micro-batches, and floating-point sums depend on that
division in their last bits. It must therefore be the same on every resume: it is derived from
memory alone (no timing), and stored in the run folder.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from training.config import Job
from training.errors import DeviceError
from training.trainer.distributed import World
from training.trainer.seed import preserve_rng_state

logger = logging.getLogger(__name__)

MAX_TOKENS = {"cpu": 8_192, "accelerator": 32_768}
"""Tokens per micro-batch beyond which a larger one makes a step no faster."""
_RAM_SHARE = 0.25
_DEVICE_SHARE = 0.85
"""Share of device memory to plan with; the rest is for fragmentation and libraries."""

Forward = Callable[[int], torch.Tensor]
"""Function that returns the loss of a micro-batch of the given number of longest rows."""


def find_micro_batch_size(
    job: Job, model: Any, world: World, forward: Forward, result_file: Path, *, row_tokens: int
) -> int:
    """Return the job's micro-batch size, or the largest one that fits if the job leaves it open.

    Args:
        job: The run.
        model: Model with its adapter, on its device.
        world: Processes that share the global batch.
        forward: Computes the loss of a micro-batch of a given size.
        result_file: File that stores the result for resumes.
        row_tokens: Tokens of the longest row; of a pair, of both sides.

    Raises:
        DeviceError: Not even one row fits.
    """
    if job.train.micro_batch_size is not None:
        return job.train.micro_batch_size
    rows = job.train.global_batch_size // world.size
    key = f"{world.size} processes, {world.device.type}"
    stored = json.loads(result_file.read_text()) if result_file.exists() else {}
    if stored.get(key) and rows % int(stored[key]) == 0:
        return int(stored[key])
    if world.device.type == "neuron":
        # Each size would be compiled, for minutes, only to measure it. The plan assumes 1 too.
        logger.warning("train.micro_batch_size is not set: 1 row at a time on Trainium")
        return 1
    kind = "accelerator" if world.accelerated else "cpu"
    by_speed = max(1, MAX_TOKENS[kind] // row_tokens)
    if job.sharding.zero == 3 or job.sharding.fsdp != "none":
        # Sharded weights cannot run a forward pass before the engine wraps the model.
        by_memory = by_speed
    elif world.accelerated:
        by_memory = _rows_that_fit_device(model, world, forward)
    else:
        by_memory = _rows_that_fit_ram(world, forward)
    if by_memory < 1:
        raise DeviceError(
            f"one row of {row_tokens} tokens does not fit this device. Lower "
            f"data.max_length, set train.gradient_checkpointing: true, or use an adapter"
        )
    size = _largest_divisor(rows, min(by_speed, by_memory, rows))
    logger.info("micro_batch_size %d (memory allows %d, speed %d)", size, by_memory, by_speed)
    if world.is_main_process:
        # Renamed into place: another process may be reading, and the job may be killed here.
        building = result_file.with_suffix(".writing")
        building.write_text(json.dumps({**stored, key: size}) + "\n")
        building.replace(result_file)
    return size


def _largest_divisor(rows: int, limit: int) -> int:
    return next(size for size in range(limit, 0, -1) if rows % size == 0)


def _rows_that_fit_ram(world: World, forward: Forward) -> int:
    """Return how many rows fit in RAM, from the bytes that autograd saves for one row."""
    saved_bytes = 0
    storages: set[int] = set()

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal saved_bytes
        # Views share a storage, which is counted once.
        if tensor.untyped_storage().data_ptr() not in storages:
            storages.add(tensor.untyped_storage().data_ptr())
            saved_bytes += tensor.untyped_storage().nbytes()
        return tensor

    with preserve_rng_state(), torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
        forward(1)
    budget = psutil.virtual_memory().total * _RAM_SHARE / world.size
    return int(budget // max(saved_bytes, 1))


def _rows_that_fit_device(model: Any, world: World, forward: Forward) -> int:
    """Return how many rows fit the device, extrapolated from the peaks of one and of two rows.

    The optimizer does not exist yet, so its states (8 bytes per trainable parameter) are added.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    gradients = sum(p.numel() * p.element_size() for p in trainable)
    states = sum(p.numel() * 8 for p in trainable)
    peaks = []
    with preserve_rng_state():
        for size in (1, 2):
            torch.cuda.reset_peak_memory_stats(world.device)
            try:
                torch.autograd.backward(forward(size))
            except torch.cuda.OutOfMemoryError:
                break
            finally:
                model.zero_grad(set_to_none=True)
            peaks.append(torch.cuda.max_memory_allocated(world.device))
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(world.device).total_memory * _DEVICE_SHARE
    if not peaks:
        return 0
    if len(peaks) == 1:
        return int(peaks[0] + states < total)
    # peak(n) = fixed + n * per_row. The fixed part is at least the gradients, which one row's peak
    # may hide behind its activations.
    per_row = max(peaks[1] - peaks[0], 1)
    fixed = max(peaks[0] - per_row, gradients) + states
    return int((total - fixed) // per_row)
