"""Errors of monitoring."""

from __future__ import annotations

from training.errors import DataError, TemperError


class LogError(DataError):
    """A log that cannot be read, or that lacks what is measured."""


class WatchError(TemperError):
    """Options that cannot be used together."""

    exit_code = 2
