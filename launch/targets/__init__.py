"""Where a job can run. One file each; what they share is the protocol.

plan → submit → status → logs → stop → resume → fetch
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from launch.errors import LaunchError

if TYPE_CHECKING:
    from launch.environment import Environment
    from launch.targets.protocol import Target

# The registry: a target is imported when it is used.
TARGETS: dict[str, str] = {
    "local": "launch.targets.local:here",
    "sagemaker": "launch.targets.sagemaker:of",
    "hyperpod": "launch.targets.hyperpod:of",
    "slurm": "launch.targets.slurm:of",
    "eks": "launch.targets.eks:of",
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


def _environment(name: str) -> Environment | None:
    if not name:
        return None
    from launch.environment import read_environment

    return read_environment(name)
