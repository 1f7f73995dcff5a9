"""Targets, the places where a job can run: one module each, all with the same protocol.

plan → submit → status → logs → stop → resume → fetch
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from launch.errors import InvalidOptionError

if TYPE_CHECKING:
    from launch.environment import LaunchEnvironment
    from launch.targets.base import Target

# Registry of targets. Each module is imported on first use: boto3 alone takes a noticeable time.
TARGETS: dict[str, str] = {
    "local": "launch.targets.local:from_environment",
    "sagemaker": "launch.targets.sagemaker:from_environment",
    "hyperpod": "launch.targets.hyperpod:from_environment",
    "slurm": "launch.targets.slurm:from_environment",
    "eks": "launch.targets.eks:from_environment",
    "bedrock-customization": "launch.targets.bedrock_customization:from_environment",
    "sagemaker-serverless": "launch.targets.sagemaker_serverless:from_environment",
    "jumpstart": "launch.targets.jumpstart:from_environment",
    "recipes": "launch.targets.recipes:from_environment",
}


def make_target(name: str, environment: str) -> Target:
    """Return the target of a name.

    Args:
        name: Key of the registry, as the user writes it after `--target`.
        environment: Name of the platform's environment, or empty.

    Raises:
        InvalidOptionError: The registry has no such target.
    """
    if name not in TARGETS:
        raise InvalidOptionError(
            f"--target {name}: no such target. Choose from {', '.join(TARGETS)}"
        )
    module, _, function = TARGETS[name].partition(":")
    from_environment = getattr(importlib.import_module(module), function)
    target: Target = from_environment(_read_environment(environment))
    return target


def _read_environment(name: str) -> LaunchEnvironment | None:
    if not name:
        return None
    from launch.environment import read_environment

    return read_environment(name)
