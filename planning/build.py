"""Construction of the plan of a job or a pipeline, and the reasons to refuse it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from planning.added_tokens import with_added_tokens
from planning.alternatives import Alternative, alternatives, suggest_changes
from planning.cost import cost_usd, costs_usd
from planning.dataset_stats import DatasetStats, read_dataset_stats
from planning.disk import disk_gib
from planning.document import Plan, Range
from planning.duration import DurationEstimate, estimate_duration, with_suite
from planning.hf_config import read_shape
from planning.layer_checks import check_layers
from planning.machine import Machine, machine_of, this_machine
from planning.method_costs import note_on
from planning.model_shape import ModelShape
from planning.peak_memory import ParallelismChoice
from planning.safety_evaluation import safety_gib
from planning.search import choose_parallelism
from planning.suite_evaluation import read_suite_work
from planning.trainable_params import count_trainable
from training.config import Job, Pipeline
from training.config.model import PREVIOUS, STAGE


def make_plan(job: Job | Pipeline) -> Plan:
    """Return the plan of a job on the machine that it names, or on this machine.

    Raises:
        JobError: The model, the data or the instance type of the job is unknown.
    """
    if isinstance(job, Pipeline):
        together = _together(job.name, tuple(_stages(job)))
        machine = max(map(machine_of, job.stages), key=lambda machine: machine.rented)
        full = tuple(_too_full(machine, together))
        return replace(
            together, fits=together.fits and not full, refused=(*together.refused, *full)
        )
    return plan_one(job, read_shape(job))


def _stages(job: Pipeline) -> Iterator[Plan]:
    last: tuple[ModelShape, bool] | None = None
    left: dict[str, tuple[ModelShape, bool]] = {}
    for stage in job.stages:
        named = stage.model.source.removeprefix(STAGE)
        if named in left:
            last = left[named]
        elif last is None or stage.model.source != PREVIOUS:
            last = read_shape(stage), False
        shape, is_adapter = with_added_tokens(last[0], stage.model), last[1]
        yield plan_one(stage, shape, upon_adapter=is_adapter)
        if stage.method.trains:
            last = shape, stage.adapter is not None
        left[stage.name] = last


def plan_here(job: Job, *, nodes: int = 1) -> Plan:
    """Return the plan of a run on this machine, without choosing settings that it leaves open.

    Args:
        job: The run; its `resources.instance` is ignored.
        nodes: Number of machines like this one that train together.

    Raises:
        JobError: As `make_plan`.
    """
    machine = replace(this_machine(job.resources.processes), count=nodes)
    return plan_one(job, read_shape(job), machine, as_written=True)


def plan_one(
    job: Job,
    shape: ModelShape,
    machine: Machine | None = None,
    *,
    as_written: bool = False,
    upon_adapter: bool = False,
) -> Plan:
    """Return the plan of one run of a model with a known shape.

    Args:
        job: The run.
        shape: Shape of its model.
        machine: Machine to plan for; the one that the job names if left out.
        as_written: True to keep checkpointing and the ZeRO stage even if the job leaves them open.
        upon_adapter: True if the run starts from an adapter trained by an earlier stage.
    """
    check_layers(job, shape)
    machine = machine or machine_of(job)
    rows = read_dataset_stats(job, shape)
    choice, memory = choose_parallelism(job, shape, machine, rows.longest, as_written=as_written)
    trained = count_trainable(job, shape)
    taken = estimate_duration(job, shape, machine, choice, rows, trained)
    suite: dict[str, Any] = {}
    if work := read_suite_work(job, shape):
        taken, seconds = with_suite(taken, work, shape, machine, rows)
        suite = work.document(seconds)
    usd, price = cost_usd(machine, taken.hours, spot=job.resources.spot)
    disk, arithmetic = disk_gib(job, shape, rows, trained, upon_adapter=upon_adapter)
    plan = Plan(
        name=job.name,
        fits=True,
        machine=machine.description,
        memory_gib={**memory, "total": sum(memory.values()), "device": machine.device_gib},
        micro_batch_size=choice.rows,
        gradient_accumulation_steps=_accumulation(job, machine, choice),
        disk_gib=disk,
        hours=taken.hours,
        cost_usd=usd,
        costs_usd=costs_usd(machine, taken.hours),
        choices=_chosen_settings(job, choice),
        steps=taken.steps,
        tokens=taken.tokens,
        parameters=shape.parameters,
        active=shape.active if shape.experts else shape.parameters,
        learned=trained,
        suite=suite,
        adapter="" if job.adapter is None else job.adapter.kind,
        price="" if price is None else f"{price.source}, {price.region}, {price.date}",
        arithmetic=tuple(arithmetic),
        notes=(
            *shape.notes,
            *rows.notes,
            *filter(None, [note_on(job)]),
            *_early(taken),
        ),
    )
    refused = tuple(_refusals(job, shape, machine, plan, rows))
    return replace(plan, fits=not refused, refused=refused)


def _accumulation(job: Job, machine: Machine, choice: ParallelismChoice) -> int:
    return max(1, job.train.global_batch_size // (choice.rows * machine.world))


def _chosen_settings(job: Job, choice: ParallelismChoice) -> dict[str, bool | int]:
    """Return the values that the plan sets for keys that the job leaves open."""
    choices: dict[str, bool | int] = {}
    if job.train.micro_batch_size is None:
        choices["train.micro_batch_size"] = choice.rows
    if choice.checkpointing != job.train.gradient_checkpointing:
        choices["train.gradient_checkpointing"] = choice.checkpointing
    if choice.zero != job.sharding.zero:
        choices["sharding.zero"] = choice.zero
    return choices


def _early(taken: DurationEstimate) -> Iterator[str]:
    if taken.fewest_steps < taken.steps:
        share = taken.fewest_steps / taken.steps
        yield (
            f"early stopping may end it from step {taken.fewest_steps} of {taken.steps} on, "
            f"after {share:.0%} of the time"
        )


# --- refusals ---------------------------------------------------------------------------------


def _refusals(
    job: Job, shape: ModelShape, machine: Machine, plan: Plan, rows: DatasetStats
) -> Iterator[str]:
    if job.train.global_batch_size % machine.world:
        yield (
            f"train.global_batch_size {job.train.global_batch_size} cannot be shared by "
            f"{machine.world} devices. Set it to a multiple of {machine.world}"
        )
    if plan.memory_gib["total"] > machine.device_gib:
        yield _too_large(job, shape, machine, plan, rows)
    yield from _too_large_for_safety(job, shape, machine)
    yield from _too_much_for_hosts(job, machine, plan)
    yield from _too_full(machine, plan)
    yield from _over_limits(job, plan)


def _too_large_for_safety(job: Job, shape: ModelShape, machine: Machine) -> Iterator[str]:
    """Refuse a job whose trained model one device cannot hold, after a training that several do."""
    needed = safety_gib(shape, machine)
    if job.evaluate.safety is not None and needed > machine.device_gib:
        yield (
            f"evaluate.safety loads the trained model onto one device: {needed:.0f} GiB, and it "
            f"has {machine.device_gib:.1f} GiB. Leave it out, and run `temper redteam` on a "
            f"machine with larger devices"
        )


def _too_much_for_hosts(job: Job, machine: Machine, plan: Plan) -> Iterator[str]:
    """Refuse a job whose `sharding.offload: cpu` exceeds the memory of its instances."""
    if job.sharding.offload != "cpu" or machine.device.kind == "cpu":
        return
    # An fp32 copy, its gradient and two states; with ZeRO 3 the weights too.
    size = plan.learned * 16 + plan.parameters * 2 * (job.sharding.zero == 3)
    each, has = size / 2**30 / machine.count, machine.instance.memory_gib
    if each > has:
        yield (
            f"sharding.offload needs {each:.0f} GiB of host memory on each instance, which has "
            f"{has:.0f} GiB. Use more instances, or offload: nvme"
        )


def _too_full(machine: Machine, plan: Plan) -> Iterator[str]:
    if machine.rented and plan.disk_gib["total"] * 1.0737 > _disk_limit_gb(machine):
        yield f"needs {plan.disk_gib['total']:.0f} GiB of disk, more than an instance can have"


def _disk_limit_gb(machine: Machine) -> float:
    return max(machine.instance.nvme_gb, 16_384)


def _too_large(
    job: Job, shape: ModelShape, machine: Machine, plan: Plan, rows: DatasetStats
) -> str:
    memory = plan.memory_gib
    parts = {n: gib for n, gib in memory.items() if n not in ("total", "device")}
    worst = sorted(parts, key=lambda name: -parts[name])[:2]
    words = [
        f"needs {memory['total']:.0f} GiB on each device, which has {memory['device']:.1f} GiB; "
        f"most of it is {' and '.join(f'{n} ({parts[n]:.0f} GiB)' for n in worst)}"
    ]
    if offers := alternatives(job, shape, rows):
        words.append(f"What would fit it as it is: {'; '.join(map(_offer, _few(offers)))}")
    else:
        words.append("Nothing in the catalogue would fit it as it is")
    if possible := list(suggest_changes(job, shape, machine, rows.longest)):
        words.append(f"Here it would fit with {', or '.join(possible)}")
    return ". ".join(words)


def _few(offers: list[Alternative]) -> list[Alternative]:
    """Return the cheapest offer and, if it differs, the cheapest with a single instance."""
    single = next((offer for offer in offers if offer.machine.count == 1), offers[0])
    return [offers[0]] + ([single] if single is not offers[0] else [])


def _offer(offer: Alternative) -> str:
    machine, usd = offer.machine, offer.usd
    return (
        f"{machine.count} × ml.{machine.instance.name} "
        f"({usd.low:.0f} to {usd.high:.0f} USD for the job)"
    )


def _over_limits(job: Job, plan: Plan) -> Iterator[str]:
    limit_s, limit_usd = job.resources.max_runtime, job.resources.max_cost
    if limit_s is not None and plan.hours.low > limit_s / 3600:
        yield (
            f"takes {plan.hours.low:.1f} to {plan.hours.high:.1f} hours; resources.max_runtime "
            f"allows {limit_s / 3600:.1f}. Raise it, train fewer epochs, or take a faster instance"
        )
    if limit_usd is not None and plan.cost_usd.low > limit_usd:
        yield (
            f"costs {plan.cost_usd.low:.0f} to {plan.cost_usd.high:.0f} USD; resources.max_cost "
            f"allows {limit_usd:.0f}. Raise it, train fewer epochs, or use an adapter"
        )


def _together(name: str, stages: tuple[Plan, ...]) -> Plan:
    """Return the plan of a pipeline: the largest memory, and the sum of everything else."""
    largest = max(stages, key=lambda plan: plan.memory_gib["total"] / plan.memory_gib["device"])
    disk = {stage.name: stage.disk_gib["total"] for stage in stages}
    return replace(
        largest,
        name=name,
        fits=all(stage.fits for stage in stages),
        disk_gib={**disk, "total": math.fsum(disk.values())},
        hours=_sum([stage.hours for stage in stages]),
        cost_usd=_sum([stage.cost_usd for stage in stages]),
        costs_usd={
            way: _sum([stage.costs_usd[way] for stage in stages])
            for way in largest.costs_usd
            if all(way in stage.costs_usd for stage in stages)
        },
        refused=tuple(f"{s.name}: {reason}" for s in stages for reason in s.refused),
        choices={},
        suite=next((s.suite for s in stages if s.suite), {}),
        steps=sum(s.steps for s in stages),
        tokens=math.fsum(s.tokens for s in stages),
        notes=tuple(dict.fromkeys(note for s in stages for note in s.notes)),
        stages=stages,
    )


def _sum(ranges: list[Range]) -> Range:
    return Range(math.fsum(r.low for r in ranges), math.fsum(r.high for r in ranges))
