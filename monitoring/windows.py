"""Windows of traffic: by time, or of a number of calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from monitoring.call import LoggedCall
from monitoring.errors import WatchError

_SIZE = re.compile(r"(\d+)\s*(min|h|d|w|)")
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MOST_EMPTY = 1000
"""Windows without a call that are listed; a log with one old call would have thousands."""


@dataclass(frozen=True)
class Window:
    """Calls of one window.

    Attributes:
        start: Its start, in UTC.
        end: Its end.
        calls: Its calls, oldest first.
    """

    start: datetime
    end: datetime
    calls: tuple[LoggedCall, ...]

    @property
    def name(self) -> str:
        """Name: the start, without what is zero."""
        whole_day = self.start.hour == self.start.minute == 0
        return self.start.strftime("%Y-%m-%d" if whole_day else "%Y-%m-%d %H:%M")


@dataclass(frozen=True)
class WindowSize:
    """Size of a window: a duration, or a number of calls."""

    duration: timedelta | None = None
    calls: int | None = None


def parse_window(text: str) -> WindowSize:
    """Return the size that a text means: `6h`, `1d`, `1w`, `30min`, or a number of calls.

    Raises:
        WatchError: It is none.
    """
    match = _SIZE.fullmatch(text.strip())
    count = int(match[1]) if match else 0
    if not match or count < 1:
        raise WatchError(
            f"--window {text}: write a duration (6h, 1d, 1w, 30min), or a number of calls (500)"
        )
    if not match[2]:
        return WindowSize(calls=count)
    return WindowSize(duration=timedelta(**{_UNITS[match[2]]: count}))


def split_windows(calls: Sequence[LoggedCall], size: WindowSize) -> list[Window]:
    """Return the windows of calls in order; those of a duration include empty ones between.

    The last window of a number of calls has the rest. Windows of a duration begin at midnight UTC
    or a multiple of the duration after it, so that the same log has the same windows.

    Args:
        calls: The calls, oldest first.
        size: Size of a window.
    """
    if size.duration is None:
        assert size.calls is not None
        parts = [calls[i : i + size.calls] for i in range(0, len(calls), size.calls)]
        return [Window(part[0].time, part[-1].time, tuple(part)) for part in parts]
    epoch = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
    by_number: dict[int, list[LoggedCall]] = {}
    for call in calls:
        by_number.setdefault((call.time - epoch) // size.duration, []).append(call)
    first, last = min(by_number), max(by_number)
    numbers = range(first, last + 1) if last - first < _MOST_EMPTY else sorted(by_number)
    return [
        Window(
            epoch + number * size.duration,
            epoch + (number + 1) * size.duration,
            tuple(by_number.get(number, ())),
        )
        for number in numbers
    ]


def gaps(windows: Sequence[Window]) -> list[tuple[datetime, datetime]]:
    """Return start and end of each stretch of at least two windows without a call."""
    found: list[tuple[datetime, datetime]] = []
    empty: list[Window] = []
    for window in windows:
        if window.calls:
            if len(empty) > 1:
                found.append((empty[0].start, empty[-1].end))
            empty = []
        else:
            empty.append(window)
    return found
