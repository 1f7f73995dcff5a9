"""What the job leaves open: micro-batch, accumulation, checkpointing, ZeRO stage."""

from __future__ import annotations

from collections.abc import Iterator

from planning.machine import Machine
from planning.method_costs import row_tokens
from planning.model_shape import ModelShape
from planning.peak_memory import ParallelismChoice, memory_config_of, peak_gib, quick_peak_gib
from training.config import Job
from training.config.adapters import AdaLora

MOST_TOKENS = {"cpu": 8_192, "cuda": 32_768, "neuron": 32_768}
"""Tokens beyond which a larger micro-batch no longer makes a step faster (as the probe has it)."""


def choose_parallelism(
    job: Job, shape: ModelShape, machine: Machine, longest: int, *, as_written: bool = False
) -> tuple[ParallelismChoice, dict[str, float]]:
    """How the job is cut up, and the memory that takes.

    The first way that fits is taken, in the order of speed: no recomputation before some, whole
    weights before shards, many rows at once before few. Where none fits, the smallest is returned.
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
    """Ways to hold the model, the fastest first; one only where the job says which."""
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
    """Rows at once, most first, that divide what each device has to do in a step."""
    if job.train.micro_batch_size is not None:
        return [job.train.micro_batch_size]
    rows = max(1, job.train.global_batch_size // machine.world)
    most = max(1, MOST_TOKENS[machine.device.kind] // row_tokens(job, longest))
    return [size for size in range(min(rows, most), 0, -1) if rows % size == 0]
