"""Kind of device that a job trains on, and the settings that follow from it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from catalog.instances import instance
from catalog.local_devices import local_kind
from training.config.composition import Compose
from training.config.distill import Distill
from training.config.job import Job, Pipeline


def device_kind(runs: Sequence[Job]) -> str:
    """Return `cuda`, `neuron` or `cpu`: the device of the stages of a job.

    The first instance type that a stage names decides, else this machine.
    """
    name = next((run.resources.instance for run in runs if run.resources.instance), None)
    if name is None:
        return local_kind(os.environ)
    described = instance(name)
    if described is not None:
        return described.accelerator.kind
    return "neuron" if name.startswith("ml.trn") else "cuda"


def with_device_defaults(job: Job | Pipeline) -> Job | Pipeline:
    """Return a job with the settings that it leaves open and that its device determines.

    On Trainium texts and conversations are packed: every row then has one length, and is full.
    """
    stages = job.stages if isinstance(job, Pipeline) else (job,)
    if device_kind(stages) != "neuron":
        return job
    if isinstance(job, Pipeline):
        return job.model_copy(update={"stages": tuple(_packed(stage) for stage in job.stages)})
    return _packed(job)


def _packed(run: Job) -> Job:
    adapter, method = run.adapter, run.method
    cannot = (
        method.rows not in ("text", "dialogue")
        or (adapter is not None and adapter.soft)
        or (isinstance(adapter, Compose) and any(c.reads_back for c in adapter.combiners))
        or (isinstance(method, Distill) and method.on_policy > 0)
    )
    if cannot or "packing" in run.data.model_fields_set:
        return run
    return run.model_copy(update={"data": run.data.model_copy(update={"packing": True})})
