"""Where a job can run. One file each; what they share is the protocol.

plan → submit → status → logs → stop → resume → fetch
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from launch.errors import LaunchError

if TYPE_CHECKING:
    from launch.environment import LaunchEnvironment
    from launch.targets.base import Target

# The registry: a target is imported when it is used.
TARGETS: dict[str, str] = {
    "local": "launch.targets.local:from_environment",
    "sagemaker": "launch.targets.sagemaker:from_environment",
    "hyperpod": "launch.targets.hyperpod:from_environment",
    "slurm": "launch.targets.slurm:from_environment",
    "eks": "launch.targets.eks:from_environment",
}


def target_of(name: str, environment: str) -> Target:
    """Return a target.

    Args:
        name: As a person writes it.
        environment: Of the platform, or empty.

    Raises:
        LaunchError: There is no such target.
    """
    if name not in TARGETS:
        raise LaunchError(f"TARGET={name}: write one of {', '.join(TARGETS)}")
    module, _, function = TARGETS[name].partition(":")
    make = getattr(importlib.import_module(module), function)
    found: Target = make(_environment(environment))
    return found


def _environment(name: str) -> LaunchEnvironment | None:
    if not name:
        return None
    from launch.environment import read_environment

    return read_environment(name)
