"""Time of a record, and the exception for a record without texts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


class MissingBodyError(ValueError):
    """A record of a call whose prompt the log does not hold."""


def parse_time(value: Any) -> datetime:
    """Return the time that a record states, in UTC.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    if not isinstance(value, str):
        raise ValueError("it has no time")
    time = datetime.fromisoformat(value)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
