"""Machines that a job requests, for a single run or a pipeline of stages."""

from __future__ import annotations

from collections.abc import Iterable

from training.config import Job, Pipeline
from training.config.job import Stage
from training.config.runtime import Resources
from training.errors import JobError, Problem


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
            f"is required with --target {target}",
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


_CLUSTER_KEYS = frozenset(
    ("count", "partition", "max_runtime", "max_cost", "processes", "environment")
)
_USED_KEYS = {
    "slurm": _CLUSTER_KEYS | {"image"},
    "hyperpod": _CLUSTER_KEYS | {"image", "instance", "retries"},
    "eks": _CLUSTER_KEYS | {"image", "instance", "retries"},
}
"""Keys of `resources` that each cluster uses; the others are of SageMaker training jobs."""


def cluster_problems(job: Job | Pipeline, target: str) -> list[Problem]:
    """Return a problem for each request that a cluster cannot fulfil and that must not be lost."""
    return [
        Problem(
            "resources.register_model",
            f"is not available with --target {target}: only a SageMaker training job registers "
            "its model",
            "true",
            "Leave it out, or use --target sagemaker",
        )
        for run in stages_of(job)
        if run.resources.register_model
    ][:1]


def unused_keys(job: Job | Pipeline, target: str) -> tuple[str, ...]:
    """Return a line about the keys of `resources` that a cluster does not use, if there are any.

    Args:
        job: Validated job.
        target: Name of the cluster's target.
    """
    defaults = Resources()
    unused = {
        name
        for run in stages_of(job)
        for name in type(run.resources).model_fields
        if name not in _USED_KEYS[target]
        and getattr(run.resources, name) != getattr(defaults, name)
    }
    return (f"not used by {target}: resources.{', '.join(sorted(unused))}",) if unused else ()
