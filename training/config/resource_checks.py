"""Checks of the machines that `resources:` requests."""

from __future__ import annotations

import re
from collections.abc import Iterator

from catalog.instances import has_local_disk, instance
from training.config.job import Job
from training.config.types import print_duration
from training.errors import Problem

_MAX_RUNTIME_S = 28 * 86400
_MAX_WARM_POOL_S = 6 * 3600
# https://awsdocs-neuron.readthedocs-hosted.com/en/latest/torch/index.html
_UNSERVED = re.compile(r"^ml\.trn1")


def check_machines(job: Job, first: bool) -> Iterator[Problem]:
    """Yield every contradiction in a job's resources."""
    wanted = job.resources
    if wanted.spot:
        yield from _spot(job)
    elif wanted.max_wait is not None:
        yield Problem("resources.max_wait", "is only used with spot: true")
    runtime, wait = wanted.max_runtime, wanted.max_wait
    if runtime and runtime > _MAX_RUNTIME_S:
        yield Problem("resources.max_runtime", "SageMaker runs a job for at most 28d")
    if runtime and wait and wait < runtime:
        yield Problem(
            "resources.max_wait",
            f"is shorter than max_runtime ({print_duration(runtime)})",
            print_duration(wait),
        )
    if wanted.keep_alive and wanted.keep_alive > _MAX_WARM_POOL_S:
        yield Problem("resources.keep_alive", "machines are kept warm for at most 6h")
    types = [t for t in (wanted.instance, *wanted.fallback) if t]
    if wanted.fallback and wanted.instance is None:
        yield Problem("resources.instance", "is required with fallback")
    yield from _instance_types(job)
    if len(set(types)) < len(types):
        yield Problem("resources.fallback", "names a type twice", ", ".join(types))


def _instance_types(job: Job) -> Iterator[Problem]:
    """Yield the instance types that cannot train, and settings that they do not use."""
    wanted = job.resources
    for key, names in (("instance", (wanted.instance,)), ("fallback", wanted.fallback)):
        if unserved := [name for name in names if name and _UNSERVED.match(name)]:
            yield Problem(
                f"resources.{key}",
                "the image trains with TorchNeuron, which serves Trainium 2 and 3 and not "
                "Trainium 1",
                ", ".join(unserved),
                "Use ml.trn2.48xlarge, or a GPU such as ml.p4d.24xlarge",
            )
    types = [name for name in (wanted.instance, *wanted.fallback) if name]
    if wanted.volume_gib is not None and types and all(map(has_local_disk, types)):
        yield Problem(
            "resources.volume_gib",
            "has no effect: SageMaker uses the local disks of this instance type and provisions "
            "no volume (docs.aws.amazon.com/sagemaker/latest/dg/"
            "model-train-storage-tips-considerations.html)",
            str(wanted.volume_gib),
            f"Leave it out; {', '.join(map(_disk, types))}",
        )


def _disk(name: str) -> str:
    described = instance(name)
    return f"{name} has {described.nvme_gb:g} GB" if described else f"{name} has local disks"


def _spot(job: Job) -> Iterator[Problem]:
    """Yield what spot capacity does not allow, or what an interruption would lose."""
    for name in ("fallback", "training_plan", "keep_alive"):
        if value := getattr(job.resources, name):
            shown = ", ".join(value) if isinstance(value, tuple) else str(value)
            yield Problem(f"resources.{name}", "is not available with spot", shown, "Leave one out")
    every, runtime, steps = job.checkpoint.every, job.resources.max_runtime, job.train.max_steps
    first_checkpoint_is_late = (every.unit == "seconds" and runtime and every.value >= runtime) or (
        every.unit == "steps" and steps and every.value >= steps
    )
    if first_checkpoint_is_late:
        yield Problem(
            "checkpoint.every",
            "a spot job that is interrupted starts over: its first checkpoint would come after "
            "its end",
            str(every),
            "Checkpoint more often, or leave out resources.spot",
        )
