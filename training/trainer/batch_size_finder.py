"""The micro-batch that fits: measured on the device with the model's own longest rows.

The answer decides how a step is cut up, and so the last bits of its sums. It is therefore found
without a clock, and kept in the run folder for every resume.
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

MOST_TOKENS = {"cpu": 8_192, "accelerator": 32_768}
"""Tokens beyond which a larger micro-batch no longer makes a step faster."""
_RAM_SHARE = 0.25
_DEVICE_SHARE = 0.85
"""The rest is for fragments and what libraries take."""

Forward = Callable[[int], torch.Tensor]
"""Returns the loss of a micro-batch of so many longest rows."""


def find_micro_batch_size(
    job: Job, model: Any, world: World, forward: Forward, kept: Path, *, row_tokens: int
) -> int:
    """Return the rows per device at once that the job leaves open.

    Args:
        job: The run.
        model: On its device, its adapter on.
        world: How many share the global batch.
        forward: Tries a size.
        kept: File that remembers the answer for resumes.
        row_tokens: Tokens of the longest row: of a pair, of both its sides.

    Raises:
        DeviceError: Not even one row fits.
    """
    if job.train.micro_batch_size is not None:
        return job.train.micro_batch_size
    rows = job.train.global_batch_size // world.size
    key = f"{world.size} processes, {world.device.type}"
    remembered = json.loads(kept.read_text()) if kept.exists() else {}
    if remembered.get(key) and rows % int(remembered[key]) == 0:
        return int(remembered[key])
    kind = "accelerator" if world.accelerated else "cpu"
    by_speed = max(1, MOST_TOKENS[kind] // row_tokens)
    if job.sharding.zero == 3 or job.sharding.fsdp != "none":
        # Sharded weights cannot be used before the engine holds them.
        by_memory = by_speed
    elif world.accelerated:
        by_memory = _fits_device(model, world, forward)
    else:
        by_memory = _fits_ram(world, forward)
    if by_memory < 1:
        raise DeviceError(
            f"one row of {row_tokens} tokens does not fit this device. Lower "
            f"data.max_length, set train.gradient_checkpointing: true, or use an adapter"
        )
    size = _divisor(rows, min(by_speed, by_memory, rows))
    logger.info("micro_batch_size %d (memory allows %d, speed %d)", size, by_memory, by_speed)
    if world.is_main_process:
        # The others may be reading, and a kill may come: the file is there whole or not at all.
        building = kept.with_suffix(".writing")
        building.write_text(json.dumps({**remembered, key: size}) + "\n")
        building.replace(kept)
    return size


def _divisor(rows: int, most: int) -> int:
    return next(size for size in range(most, 0, -1) if rows % size == 0)


def _fits_ram(world: World, forward: Forward) -> int:
    """Count the bytes one row keeps for its backward pass."""
    kept_bytes = 0
    seen: set[int] = set()

    def note(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept_bytes
        if tensor.untyped_storage().data_ptr() not in seen:
            seen.add(tensor.untyped_storage().data_ptr())
            kept_bytes += tensor.untyped_storage().nbytes()
        return tensor

    with preserve_rng_state(), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        forward(1)
    budget = psutil.virtual_memory().total * _RAM_SHARE / world.size
    return int(budget // max(kept_bytes, 1))


def _fits_device(model: Any, world: World, forward: Forward) -> int:
    """Run one and two rows forward and backward, and reckon with what the optimizer will take."""
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
    per_row = max(peaks[1] - peaks[0], 1)
    fixed = max(peaks[0] - per_row, gradients) + states
    return int((total - fixed) // per_row)
