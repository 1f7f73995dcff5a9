"""Search for the micro-batch size, checkpointing and ZeRO stage that a job leaves open."""

from __future__ import annotations

from collections.abc import Iterator

from planning.machine import Machine
from planning.method_costs import row_tokens
from planning.model_shape import ModelShape
from planning.peak_memory import ParallelismChoice, memory_config_of, peak_gib, quick_peak_gib
from training.config import Job
from training.config.adapters import AdaLora

MOST_TOKENS = {"cpu": 8_192, "cuda": 32_768, "neuron": 32_768}
"""Tokens per micro-batch beyond which a larger one is no faster, as in the batch size finder."""


def choose_parallelism(
    job: Job, shape: ModelShape, machine: Machine, longest: int, *, as_written: bool = False
) -> tuple[ParallelismChoice, dict[str, float]]:
    """Return the fastest settings that fit, and the memory they need by category.

    Candidates are tried in order of speed: no sharding before sharding, no checkpointing before
    checkpointing, large micro-batches before small ones. If none fits, the one that needs the
    least memory is returned.

    Args:
        job: The run.
        shape: Shape of its model.
        machine: The machine.
        longest: Tokens of the longest sequence.
        as_written: True to keep checkpointing and the ZeRO stage of the job.
    """
    smallest: tuple[float, ParallelismChoice] | None = None
    ways = [(job.train.gradient_checkpointing, job.sharding.zero)]
    for checkpointing, zero in ways if as_written else _ways(job, machine):
        for rows in _micro_batches(job, machine, longest):
            choice = ParallelismChoice(rows, checkpointing, zero)
            config = memory_config_of(job, shape, machine, choice, longest)
            total = quick_peak_gib(config)
            if smallest is None or total < smallest[0]:
                smallest = (total, choice)
            if total <= machine.device_gib:
                parts = peak_gib(config)
                if sum(parts.values()) <= machine.device_gib:
                    return choice, parts
    assert smallest is not None
    choice = smallest[1]
    return choice, peak_gib(memory_config_of(job, shape, machine, choice, longest))


def _ways(job: Job, machine: Machine) -> Iterator[tuple[bool, int]]:
    """Yield checkpointing and ZeRO stage of each candidate that the job permits, fastest first."""
    train, sharding = job.train, job.sharding
    checkpoints = (
        (train.gradient_checkpointing,)
        if "gradient_checkpointing" in train.model_fields_set
        else (False, True)
    )
    stages: tuple[int, ...] = (sharding.zero,)
    if not sharding.model_fields_set & {"zero", "fsdp"} and machine.world > 1:
        stages = (0, 2) if job.adapter is not None and job.adapter.quantized else (0, 2, 3)
        if machine.device.kind == "neuron" or isinstance(job.adapter, AdaLora):
            stages = (0,)
    for zero in stages:
        for checkpointing in checkpoints:
            yield checkpointing, zero


def _micro_batches(job: Job, machine: Machine, longest: int) -> list[int]:
    """Return the micro-batch sizes that divide a device's rows of a step, the largest first."""
    if job.train.micro_batch_size is not None:
        return [job.train.micro_batch_size]
    if machine.device.kind == "neuron":
        return [1]  # as in training, which does not search there
    rows = max(1, job.train.global_batch_size // machine.world)
    most = max(1, MOST_TOKENS[machine.device.kind] // row_tokens(job, longest))
    return [size for size in range(min(rows, most), 0, -1) if rows % size == 0]
