"""Limits of an environment on the machines and the run time of jobs.

IAM enforces them for the engineer role, by the condition keys `sagemaker:InstanceTypes` and
`sagemaker:MaxRuntimeInSeconds`. Its denial names neither the key nor the limit, so they are checked
before anything is uploaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from launch.aws.create_training_job import max_runtime_s
from launch.aws.platform_parameters import PlatformParameters
from training.config.runtime import Resources
from training.config.types import print_duration
from training.errors import Problem


def cost_limit_problems(resources: Resources, platform: PlatformParameters) -> Iterator[Problem]:
    """Yield what a job requests beyond the limits that its environment was deployed with."""
    settings = f"environments/{platform.environment.name}.yaml"
    allowed = platform.get("training/allowed-instance-types")
    patterns = allowed.split(",") if allowed else ["*"]
    for key, instance_type in _requested_types(resources):
        if not any(fnmatchcase(instance_type, pattern) for pattern in patterns):
            yield Problem(
                key,
                "is an instance type that this environment does not allow",
                instance_type,
                f"Choose one of {', '.join(patterns)}, or have it added to "
                f"training.allowed_instance_types of {settings} and deployed",
            )
    hours = platform.get("training/max-runtime-hours")
    runtime_s = max_runtime_s(resources, platform)
    if hours and runtime_s > int(hours) * 3600:
        yield Problem(
            "resources.max_runtime",
            f"is longer than the {hours} h that this environment allows",
            print_duration(runtime_s),
            f"Write {hours}h or less, or have training.max_runtime_hours of {settings} raised and "
            "deployed",
        )


def _requested_types(resources: Resources) -> Iterator[tuple[str, str]]:
    if resources.instance:
        yield "resources.instance", resources.instance
    for i, instance_type in enumerate(resources.fallback):
        yield f"resources.fallback.{i}", instance_type
