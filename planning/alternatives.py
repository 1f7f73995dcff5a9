"""Alternatives for a job that does not fit: settings to change, and the cheapest instances."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from catalog.instances import Instance, instances
from catalog.prices import price
from planning.cost import cost_usd
from planning.dataset_stats import DatasetStats
from planning.document import Range
from planning.duration import estimate_duration
from planning.machine import Machine, from_catalog
from planning.model_shape import ModelShape
from planning.peak_memory import ParallelismChoice, memory_config_of, quick_peak_gib
from planning.trainable_params import count_trainable
from training.config import Job
from training.config.adapters import Lora, Qlora

_MOST_INSTANCES = 8


@dataclass(frozen=True)
class Alternative:
    """Machine on which a job fits.

    Attributes:
        machine: Instances of one type.
        hours: Duration of the complete job.
        usd: Cost of the complete job.
    """

    machine: Machine
    hours: Range
    usd: Range


def alternatives(job: Job, shape: ModelShape, rows: DatasetStats) -> list[Alternative]:
    """Return the machines on which the unchanged job fits, the cheapest for the job first.

    Args:
        job: The run.
        shape: Shape of its model.
        rows: Statistics of its data.
    """
    trained = count_trainable(job, shape)
    offers = []
    for kind in instances().values():
        if price(kind.name) is None or not _serves(job, kind):
            continue
        machine = _fewest(job, shape, kind, rows.longest)
        if machine is None:
            continue
        hours = estimate_duration(job, shape, machine, _least(job, machine), rows, trained).hours
        usd, _ = cost_usd(machine, hours, spot=job.resources.spot)
        offers.append(Alternative(machine, hours, usd))
    return sorted(offers, key=lambda offer: math.fsum(offer.usd))


def _least(job: Job, machine: Machine) -> ParallelismChoice:
    """Return the choice that needs the least memory among those that the job leaves open."""
    train = job.train
    rows = train.micro_batch_size or 1
    open_ = "gradient_checkpointing" not in train.model_fields_set
    zero = job.sharding.zero
    if not job.sharding.model_fields_set & {"zero", "fsdp"} and _shards(machine):
        zero = 2 if job.adapter is not None and job.adapter.quantized else 3
    return ParallelismChoice(rows, train.gradient_checkpointing or open_, zero)


def _shards(machine: Machine) -> bool:
    return machine.world > 1 and machine.device.kind != "neuron"


def _fewest(job: Job, shape: ModelShape, kind: Instance, longest: int) -> Machine | None:
    count = 1
    while count <= _MOST_INSTANCES:
        machine = from_catalog(kind, count)
        choice = _least(job, machine)
        shared = job.train.global_batch_size % (machine.world * choice.rows) == 0
        if shared and _fits(job, shape, machine, choice, longest):
            return machine
        if not (choice.zero or job.sharding.fsdp != "none"):
            return None
        count *= 2
    return None


def _fits(
    job: Job, shape: ModelShape, machine: Machine, choice: ParallelismChoice, longest: int
) -> bool:
    return (
        quick_peak_gib(memory_config_of(job, shape, machine, choice, longest)) <= machine.device_gib
    )


def _serves(job: Job, kind: Instance) -> bool:
    """Return True if the accelerator supports the job's sharding, attention and quantization."""
    if kind.accelerator.kind != "neuron":
        return job.sharding.fsdp == "none"
    quantized = job.adapter is not None and job.adapter.quantized
    return not job.sharding.zero and job.model.attention == "sdpa" and not quantized


def suggest_changes(job: Job, shape: ModelShape, machine: Machine, longest: int) -> Iterator[str]:
    """Yield single changes of the job with which it would fit a machine.

    Args:
        job: The run.
        shape: Shape of its model.
        machine: The machine.
        longest: Tokens of the longest sequence.
    """
    for words, changed, choice in _tries(job, machine):
        if _fits(changed, shape, machine, choice, longest):
            yield words


def _tries(job: Job, machine: Machine) -> Iterator[tuple[str, Job, ParallelismChoice]]:
    least = _least(job, machine)
    full = replace(least, checkpointing=True)
    if job.train.micro_batch_size not in (None, 1):
        yield "train.micro_batch_size: 1", job, replace(least, rows=1)
    if not least.checkpointing:
        yield "train.gradient_checkpointing: true", job, full
    if machine.device.kind == "neuron" and machine.world > 1 and job.sharding.fsdp == "none":
        sharded = job.sharding.model_copy(update={"fsdp": "full"})
        yield "sharding: {fsdp: full}", job.model_copy(update={"sharding": sharded}), full
    elif least.zero < 3 and machine.world > 1 and job.sharding.fsdp == "none":
        yield "sharding: {zero: 3}", job, replace(full, zero=3)
    if job.adapter is None:
        lora = job.model_copy(update={"adapter": Lora(kind="lora")})
        yield "adapter: {kind: lora}", lora, full
    quantizes = machine.device.kind != "neuron" and job.sharding.fsdp == "none"
    if quantizes and (job.adapter is None or not job.adapter.quantized):
        qlora = job.model_copy(update={"adapter": Qlora(kind="qlora")})
        words = "adapter: {kind: qlora}" + (" and sharding: {zero: 2}" if full.zero == 3 else "")
        yield words, qlora, replace(full, zero=min(full.zero, 2))
    half = job.data.max_length // 2
    if half >= 256:
        shorter = job.model_copy(update={"data": job.data.model_copy(update={"max_length": half})})
        yield f"data.max_length: {half}", shorter, full
