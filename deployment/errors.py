"""Errors of deployments."""

from __future__ import annotations

from launch.errors import LaunchError


class DeployModelError(LaunchError):
    """A deployment failed, or cannot be found or changed."""


class RolledBackError(DeployModelError):
    """The service returned to the version that was deployed before."""
