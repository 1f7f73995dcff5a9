"""Time that a search has taken, over all its starts."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from training.run_folder import write_whole

_SAVE_EVERY_S = 5.0


class SearchClock:
    """Clock that continues from where an earlier start of the search ended.

    Args:
        folder: Folder of the search, which keeps the time.
        limit_s: Time after which the search ends; None for no limit.
    """

    def __init__(self, folder: Path, limit_s: float | None):
        self._path = folder / "elapsed_s"
        self._limit_s = limit_s
        self._before_s = 0.0
        with suppress(OSError, ValueError):
            self._before_s = float(self._path.read_text())
        self._began = self._saved = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Time since the first start, without the time between two starts."""
        return self._before_s + time.monotonic() - self._began

    @property
    def is_over(self) -> bool:
        """True if the limit is reached."""
        return self._limit_s is not None and self.elapsed_s >= self._limit_s

    def save(self, *, now: bool = False) -> None:
        """Write the time, if the last time was written some seconds ago or `now` is set."""
        if now or time.monotonic() - self._saved > _SAVE_EVERY_S:
            write_whole(self._path, f"{self.elapsed_s:.1f}\n")
            self._saved = time.monotonic()
