"""Stand-in for the package `regex` in Lambda's Python, by `re` with a time limit.

It has what `training.rewards.regex_count` uses. The patterns of a job are in the syntax of `re`.
The time limit is a signal, on which `re` stops a search; it works in the main thread, in which
Lambda calls a function.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

IGNORECASE = re.IGNORECASE
VERSION0 = 0
"""Flag of `regex` for the behavior of `re`, which `re` does not need."""


class _Pattern:
    def __init__(self, pattern: str, flags: int):
        self._pattern = re.compile(pattern, flags)

    def finditer(self, text: str, timeout: float) -> Iterator[re.Match[str]]:
        """Return the matches of a pattern.

        Raises:
            TimeoutError: They took longer than `timeout` seconds.
        """
        with _time_limit(timeout):
            return iter(list(self._pattern.finditer(text)))


def compile(pattern: str, flags: int = 0) -> _Pattern:
    """Return a compiled pattern."""
    return _Pattern(pattern, flags)


@contextmanager
def _time_limit(limit_s: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
