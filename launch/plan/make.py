"""From a job to its plan."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace

from catalog.instances import Accelerator, Instance, instance, instances
from catalog.prices import price
from launch.plan.document import Plan, Range
from launch.plan.shape import Shape, read_shape
from training.config import Job, Pipeline
from training.config.adapters import Widths
from training.config.model import PREVIOUS
from training.errors import JobError, Problem

_GIB = 2.0**30
_MFU = {"cuda": (0.30, 0.45), "neuron": (0.20, 0.35), "cpu": (0.3, 0.8)}
_START_H = (0.1, 0.25)


def make_plan(job: Job | Pipeline) -> Plan:
    """Plan a job for the machine it names, or for this one.

    Raises:
        JobError: The job names a model or an instance type that nothing is known of.
    """
    if isinstance(job, Pipeline):
        return _together(job.name, tuple(_plans(job)))
    return _plan_one(job, read_shape(job))


def _plans(job: Pipeline) -> Iterator[Plan]:
    shape: Shape | None = None
    for stage in job.stages:
        if shape is None or stage.model.source != PREVIOUS:
            shape = read_shape(stage)
        yield _plan_one(stage, shape)


def _plan_one(job: Job, shape: Shape) -> Plan:
    plan = _plan(job, shape, _machine(job))
    if plan.memory_gib["total"] > plan.memory_gib["device"]:
        return replace(plan, fits=False, refused=(_too_large(job, shape, plan),))
    refused = _over_limits(job, plan)
    return replace(plan, fits=not refused, refused=refused)


def _machine(job: Job) -> Instance:
    name = job.resources.instance
    if name is None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
        cores = len(os.sched_getaffinity(0))
        cpu = Accelerator("CPU", "cpu", memory, memory, 0.05 * cores, 0.05 * cores, 20)
        return Instance("this machine", cpu, job.resources.processes or 1, cores, memory, 0, 0, 0)
    found = instance(name)
    if found is None:
        near = ", ".join(f"ml.{n}" for n in instances())
        raise JobError(
            job.name,
            [Problem("resources.instance", "is not in the catalogue", name, f"It has {near}")],
        )
    return found


def _plan(job: Job, shape: Shape, machine: Instance) -> Plan:
    world = machine.devices * job.resources.count
    rows = max(1, job.train.global_batch_size // world)
    micro = job.train.micro_batch_size or next(
        (
            m
            for m in range(rows, 0, -1)
            if rows % m == 0
            and sum(_memory(job, shape, world, m).values()) <= machine.accelerator.usable_gib
        ),
        1,
    )
    memory = _memory(job, shape, world, micro)
    memory = {**memory, "total": sum(memory.values()), "device": machine.accelerator.usable_gib}
    hours = _hours(job, shape, machine, world)
    cost = _cost(job, hours)
    weights = shape.parameters * 2 / _GIB
    learned = _learned(job, shape) * 12 / _GIB
    disk = {"weights": weights, "checkpoints": learned * (job.checkpoint.keep + 1), "data": 0.1}
    return Plan(
        name=job.name,
        fits=True,
        memory_gib=memory,
        micro_batch_size=micro,
        gradient_accumulation_steps=rows // micro,
        disk_gib={**disk, "total": sum(disk.values())},
        hours=hours,
        cost_usd=cost,
        choices={} if job.train.micro_batch_size else {"train.micro_batch_size": micro},
        machine=f"{job.resources.count} × {machine.name}, {world} × {machine.accelerator.name}",
    )


def _learned(job: Job, shape: Shape) -> int:
    if job.adapter is None:
        return shape.parameters
    heads, kv_heads = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    widths = Widths(shape.layers, shape.hidden, heads, kv_heads, shape.intermediate)
    return job.adapter.num_trained(widths)


def _memory(job: Job, shape: Shape, world: int, micro: int) -> dict[str, float]:
    zero = 3 if job.sharding.fsdp != "none" else job.sharding.zero
    learned, tokens = _learned(job, shape), micro * job.data.max_length
    per_weight = 0.53 if job.adapter and job.adapter.quantized else 2.0
    if job.adapter is None and not zero:
        per_weight = 4.0 + (2.0 if job.precision != "fp32" else 0.0)
    layer = 16 * shape.hidden + 6 * shape.intermediate
    kept = (
        2 * shape.hidden * shape.layers + layer
        if job.train.gradient_checkpointing
        else (layer * shape.layers)
    )
    return {
        "weights": shape.parameters * per_weight / (world if zero == 3 else 1) / _GIB,
        "gradients": learned * (2 if zero else 4) / (world if zero >= 2 else 1) / _GIB,
        "optimizer": learned * (12 if zero else 8) / (world if zero else 1) / _GIB,
        "activations": tokens * 2 * kept / _GIB,
        "logits": min(tokens, 2048) * shape.vocab * 8 / _GIB,
        "buffers": (1.2 if zero else 0.1),
        "runtime": 1.5,
    }


def _hours(job: Job, shape: Shape, machine: Instance, world: int) -> Range:
    rows = 3000
    steps = job.train.max_steps or math.ceil(
        rows * job.train.num_train_epochs / job.train.global_batch_size
    )
    tokens = steps * job.train.global_batch_size * job.data.max_length
    flops = tokens * shape.parameters * (6 if job.adapter is None else 4)
    peak = machine.accelerator.bf16_tflops * 1e12 * world
    low, high = _MFU[machine.accelerator.kind]
    hours = Range(flops / peak / high / 3600, flops / peak / low / 3600)
    if machine.accelerator.kind == "cpu":
        return hours
    return Range(hours.low + _START_H[0], hours.high + _START_H[1])


def _cost(job: Job, hours: Range) -> Range:
    known = price(job.resources.instance) if job.resources.instance else None
    if known is None:
        return Range(0.0, 0.0)
    usd = (known.spot_low_usd if job.resources.spot else known.on_demand_usd, known.on_demand_usd)
    return Range(*(h * u * job.resources.count for h, u in zip(hours, usd, strict=True)))


def _too_large(job: Job, shape: Shape, plan: Plan) -> str:
    total, device = plan.memory_gib["total"], plan.memory_gib["device"]
    fitting = []
    for name, found in instances().items():
        other = _plan(job, shape, found)
        if other.memory_gib["total"] <= found.accelerator.usable_gib and (usd := price(name)):
            fitting.append((usd.on_demand_usd, name))
    cheapest = f"ml.{min(fitting)[1]} would" if fitting else "No instance in the catalogue would"
    return f"needs {total:.0f} GiB a device, which has {device:.0f} GiB. {cheapest} fit this job"


def _over_limits(job: Job, plan: Plan) -> tuple[str, ...]:
    found = []
    limit_h = (job.resources.max_runtime or math.inf) / 3600
    if plan.hours.low > limit_h:
        found.append(f"takes at least {plan.hours.low:.1f} h; max_runtime is {limit_h:.1f} h")
    if plan.cost_usd.low > (job.resources.max_cost or math.inf):
        found.append(
            f"costs at least {plan.cost_usd.low:.0f} USD; max_cost is {job.resources.max_cost:.0f}"
        )
    return tuple(found)


def _together(name: str, stages: tuple[Plan, ...]) -> Plan:
    largest = max(stages, key=lambda plan: plan.memory_gib["total"])
    disk = {s.name: s.disk_gib["total"] for s in stages}
    return replace(
        largest,
        name=name,
        fits=all(s.fits for s in stages),
        disk_gib={**disk, "total": sum(disk.values())},
        hours=Range(sum(s.hours.low for s in stages), sum(s.hours.high for s in stages)),
        cost_usd=Range(sum(s.cost_usd.low for s in stages), sum(s.cost_usd.high for s in stages)),
        refused=tuple(f"{s.name}: {reason}" for s in stages for reason in s.refused),
        choices={},
        stages=stages,
    )
