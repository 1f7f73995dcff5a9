"""What can go wrong between the person and the place where a job runs."""

from __future__ import annotations

from training.errors import TemperError


class LaunchError(TemperError):
    """A target cannot take a run, or cannot tell of one."""

    exit_code = 4


class NotConfirmed(LaunchError):  # noqa: N818 (not a fault: the person said no, or nobody could be asked)
    """Something that costs or deletes was not agreed to."""

    exit_code = 2
