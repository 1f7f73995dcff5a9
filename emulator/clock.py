"""Clocks of the emulated services: one that a test advances, and the machine's own."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

_logger = logging.getLogger(__name__)
Callback = Callable[[], None]


class Clock(Protocol):
    """Source of time, and of callbacks at a time.

    Attributes:
        speed: Emulated seconds in a second of this machine. The start of a real process is
            measured in the machine's seconds, since it does not run faster than they pass.
    """

    speed: float

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""

    def call_later(self, delay: float, callback: Callback) -> None:
        """Run a callback after a delay in seconds."""


class FakeClock:
    """Clock that stands still until it is advanced.

    Args:
        start: Time in seconds since the epoch; the machine's by default.
    """

    speed = 1.0

    def __init__(self, start: float | None = None):
        self._now = time.time() if start is None else start
        self._due: list[tuple[float, int, Callback]] = []
        self._numbers = itertools.count()
        self._lock = threading.RLock()

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._now

    def call_later(self, delay: float, callback: Callback) -> None:
        """Run a callback when the clock has advanced by a delay."""
        with self._lock:
            entry = (self._now + max(delay, 0.0), next(self._numbers), callback)
            heapq.heappush(self._due, entry)

    def advance(self, seconds: float) -> None:
        """Advance the clock, and run what falls due on the way, in the order of its times."""
        end = self._now + seconds
        while callback := self._next(end):
            callback()  # without the lock: it may wait for a thread that calls this clock
        with self._lock:
            self._now = max(self._now, end)

    def _next(self, end: float) -> Callback | None:
        """Return the next callback that falls due until a time, and advance to its time."""
        with self._lock:
            if not self._due or self._due[0][0] > end:
                return None
            due, _, callback = heapq.heappop(self._due)
            self._now = max(self._now, due)
            return callback


class SystemClock:
    """The machine's clock, or one that runs faster by a constant factor.

    Args:
        speed: Emulated seconds in a second of this machine.
    """

    def __init__(self, speed: float = 1.0):
        self.speed = speed
        self._start, self._started = time.time(), time.monotonic()
        self._due: list[tuple[float, int, Callback]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._start + (time.monotonic() - self._started) * self.speed

    def call_later(self, delay: float, callback: Callback) -> None:
        """Run a callback on the clock's thread after a delay."""
        with self._changed:
            entry = (self.now() + max(delay, 0.0), next(self._numbers), callback)
            heapq.heappush(self._due, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > self.now():
                    wait = (self._due[0][0] - self.now()) / self.speed if self._due else None
                    self._changed.wait(wait)
                callback = heapq.heappop(self._due)[2]
            try:
                callback()
            except Exception:  # a fault of one resource does not end the others
                _logger.exception("a callback of the emulated service's clock failed")
