"""Size of the storage volume of a training job."""

from __future__ import annotations

from collections.abc import Iterator

from launch.prepared_job import PreparedJob
from launch.resources import cloud_resources
from planning import Plan
from training.errors import Problem


def needed_volume_gib(plan: Plan) -> float:
    """Return the disk that a run needs: what it writes, and libraries and temporary files."""
    return 1.2 * plan.disk_gib["total"] + 20


def volume_problems(prepared: PreparedJob) -> Iterator[Problem]:
    """Yield a problem if the volume that a job names is too small for what the run writes."""
    resources = cloud_resources(prepared.job, prepared.source, "sagemaker")
    writes_gib = prepared.plan.disk_gib["total"]
    if resources.volume_gib is not None and resources.volume_gib < writes_gib:
        yield Problem(
            "resources.volume_gib",
            f"is less than the {writes_gib:.0f} GiB that the run writes",
            str(resources.volume_gib),
            f"Leave it out: {needed_volume_gib(prepared.plan):.0f} GiB are then requested",
        )
