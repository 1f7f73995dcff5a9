"""Machines that a job requests, for a single run or a pipeline of stages."""

from __future__ import annotations

import re
from collections.abc import Iterable

from catalog.instances import instance as find_instance
from training.config import Job, Pipeline
from training.config.job import Stage
from training.config.runtime import Resources
from training.errors import JobError, Problem

# Instance families without accelerators mark local disks with a `d` (c5d, m6id); so does g4dn.
_LOCAL_DISK_FAMILY = re.compile(r"^ml\.[a-z]+\d[a-z]*d")


def stages_of(job: Job | Pipeline) -> Iterable[Job | Stage]:
    """Return the stages of a pipeline; a single job counts as one stage."""
    return job.stages if isinstance(job, Pipeline) else (job,)


def cloud_resources(job: Job | Pipeline, source: str, target: str) -> Resources:
    """Return the machines of a job in the cloud, on which all of its stages must agree.

    Args:
        job: Validated job.
        source: Name of the job file, for messages.
        target: Name of the target, for messages.

    Raises:
        JobError: The job names no instance type, or its stages name different machines.
    """
    named = [(i, run.resources) for i, run in enumerate(stages_of(job)) if run.resources.instance]
    section = "stages.0.resources" if isinstance(job, Pipeline) else "resources"
    if not named:
        problem = Problem(
            f"{section}.instance",
            f"is required with TARGET={target}",
            fix="For instance ml.g5.2xlarge",
        )
        raise JobError(source, [problem])
    first = named[0][1]
    different = [i for i, resources in named if resources != first]
    if different:
        problem = Problem(
            f"stages.{different[0]}.resources",
            f"all stages run on the same machines, and stage {named[0][0]} requests others",
            fix="Write resources in the first stage only",
        )
        raise JobError(source, [problem])
    return first


def image_kind(instance: str) -> str:
    """Return the kind of image that an instance type needs: `gpu` (CPUs too) or `neuron`."""
    return "neuron" if instance.startswith("ml.trn") else "gpu"


def has_local_disk(instance: str) -> bool:
    """Return whether an instance type has local disks, which its hardware encrypts."""
    described = find_instance(instance)
    return described.nvme_gb > 0 if described else bool(_LOCAL_DISK_FAMILY.match(instance))
