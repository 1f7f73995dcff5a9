"""Errors of deployments."""

from __future__ import annotations

from launch.errors import LaunchError


class DeployModelError(LaunchError):
    """A deployment failed, or cannot be found or changed."""


class RemovedMeanwhileError(DeployModelError):
    """A deployment disappeared while a command worked on it.

    Args:
        name: Name of the deployment.
    """

    def __init__(self, name: str):
        super().__init__(f"{name} was removed by someone else")


class RolledBackError(DeployModelError):
    """The service returned to the version that was deployed before."""
