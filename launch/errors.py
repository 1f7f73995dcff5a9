"""Errors of submitting, inspecting and fetching runs."""

from __future__ import annotations

from catalog.exit_codes import JOB_INVALID, RUN_FAILED
from training.errors import TemperError


class LaunchError(TemperError):
    """A target rejects a run, or cannot report on one."""

    exit_code = RUN_FAILED


class InvalidOptionError(LaunchError):
    """An option of the command line has a value that does not exist."""

    exit_code = JOB_INVALID


class NoSuchRunError(LaunchError):
    """The argument RUN of a command names no run."""

    exit_code = JOB_INVALID


class NotConfirmed(LaunchError):  # noqa: N818 (the answer was no; nothing is broken)
    """An action that costs money or deletes data was not confirmed."""

    exit_code = JOB_INVALID
