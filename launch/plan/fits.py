"""What would fit: the part to change, and the cheapest instances of the catalogue that could."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from catalog.instances import Instance, instances
from catalog.prices import price
from launch.plan.machine import Machine, rent
from launch.plan.peak import Choice, quick_peak_gib, recipe_of
from launch.plan.shape import Shape
from training.config import Job

_MOST_INSTANCES = 8


def would_fit(job: Job, shape: Shape, longest: int) -> list[tuple[Machine, float]]:
    """Machines on which the job fits as it is written, the cheapest by the hour first.

    Returns:
        Machines, each with dollars an hour.
    """
    found = []
    for kind in instances().values():
        usd = price(kind.name)
        if usd is None or not _serves(job, kind):
            continue
        machine = _fewest(job, shape, kind, longest)
        if machine is not None:
            found.append((machine, usd.on_demand_usd * machine.count))
    return sorted(found, key=lambda pair: pair[1])


def _fewest(job: Job, shape: Shape, kind: Instance, longest: int) -> Machine | None:
    count = 1
    while count <= _MOST_INSTANCES:
        machine = rent(kind, count)
        if job.train.global_batch_size % machine.world == 0 and _fits(job, shape, machine, longest):
            return machine
        if not _shards(job):
            return None
        count *= 2
    return None


def _fits(job: Job, shape: Shape, machine: Machine, longest: int) -> bool:
    choice = Choice(1, _may_checkpoint(job), job.sharding.zero)
    recipe = recipe_of(job, shape, machine, choice, longest)
    return quick_peak_gib(recipe) <= machine.device_gib


def _serves(job: Job, kind: Instance) -> bool:
    """Whether the job's engine and attention run there."""
    neuron = kind.accelerator.kind == "neuron"
    if neuron:
        quantized = job.adapter is not None and job.adapter.quantized
        return not job.sharding.zero and job.model.attention == "sdpa" and not quantized
    return job.sharding.fsdp == "none"


def _shards(job: Job) -> bool:
    return bool(job.sharding.zero) or job.sharding.fsdp != "none"


def _may_checkpoint(job: Job) -> bool:
    train = job.train
    return train.gradient_checkpointing or "gradient_checkpointing" not in train.model_fields_set


def changes(job: Job, shape: Shape, machine: Machine, longest: int) -> Iterator[str]:
    """Changes of the job, one at a time, with which it would fit this machine."""
    least = Choice(1, _may_checkpoint(job), job.sharding.zero)
    for words, choice, update in _tries(job, machine, least):
        changed = job.model_copy(update=update)
        recipe = recipe_of(changed, shape, machine, choice, longest)
        if quick_peak_gib(recipe) <= machine.device_gib:
            yield words


def _tries(
    job: Job, machine: Machine, least: Choice
) -> Iterator[tuple[str, Choice, dict[str, object]]]:
    if job.train.micro_batch_size not in (None, 1):
        yield "train.micro_batch_size: 1", least, {}
    if not least.checkpointing:
        yield "train.gradient_checkpointing: true", replace(least, checkpointing=True), {}
    full = replace(least, checkpointing=True)
    if job.sharding.zero < 3 and machine.world > 1 and job.sharding.fsdp == "none":
        yield "sharding: {zero: 3}", replace(full, zero=3), {}
    if job.adapter is None:
        for kind in ("lora", "qlora"):
            zero = min(full.zero, 2) if kind == "qlora" else full.zero
            yield (
                f"adapter: {{kind: {kind}}}",
                replace(full, zero=zero),
                {"adapter": _adapter(kind)},
            )
    elif not job.adapter.quantized:
        qlora = {"adapter": _adapter("qlora")}
        yield "adapter: {kind: qlora}", replace(full, zero=min(full.zero, 2)), qlora


def _adapter(kind: str) -> object:
    from training.config.adapters import Lora, Qlora

    return Lora(kind="lora") if kind == "lora" else Qlora(kind="qlora")
