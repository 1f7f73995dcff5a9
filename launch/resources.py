"""The machines a job asks for, whether it is one run or several in a row."""

from __future__ import annotations

import re
from collections.abc import Iterable

from catalog.instances import instance as catalogued
from training.config import Job, Pipeline
from training.config.job import Stage
from training.config.runtime import Resources
from training.errors import JobError, Problem

# Families without accelerators say by a `d` that they bring disks (c5d, m6id); so does g4dn.
_D_FOR_DISK = re.compile(r"^ml\.[a-z]+\d[a-z]*d")


def runs_of(job: Job | Pipeline) -> Iterable[Job | Stage]:
    """Return the runs a job is made of."""
    return job.stages if isinstance(job, Pipeline) else (job,)


def resources_of(job: Job | Pipeline, source: str, target: str) -> Resources:
    """Return the machines of a job in the cloud; those of its stages must agree.

    Args:
        job: Checked.
        source: The job file's name, for messages.
        target: Where it is to run, for messages.

    Raises:
        JobError: No instance is named, or the stages name different machines.
    """
    named = [(i, run.resources) for i, run in enumerate(runs_of(job)) if run.resources.instance]
    where = "stages.0.resources" if isinstance(job, Pipeline) else "resources"
    if not named:
        problem = Problem(
            f"{where}.instance",
            f"is required with TARGET={target}",
            fix="For instance ml.g5.2xlarge",
        )
        raise JobError(source, [problem])
    first = named[0][1]
    different = [i for i, resources in named if resources != first]
    if different:
        problem = Problem(
            f"stages.{different[0]}.resources",
            f"all stages run on the same machines, and stage {named[0][0]} asks for others",
            fix="Write resources in the first stage only",
        )
        raise JobError(source, [problem])
    return first


def image_kind(instance: str) -> str:
    """Return which of our images an instance type needs: `gpu` (CPUs too) or `neuron`."""
    return "neuron" if instance.startswith("ml.trn") else "gpu"


def has_local_disk(instance: str) -> bool:
    """Whether an instance type brings disks of its own, encrypted in hardware."""
    known = catalogued(instance)
    return known.nvme_gb > 0 if known else bool(_D_FOR_DISK.match(instance))
