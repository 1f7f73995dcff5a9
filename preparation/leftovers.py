"""Folders that interrupted preparations have left next to the result."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from preparation.executors.local import WORKERS_LOCK
from preparation.plan import BUILDING, PreparationPlan
from preparation.storage import is_s3

RUN_LOCK = "run.lock"
_KEPT_S = 7 * 24 * 3600
"""Nodes that share a preparation hold no lock: only the age of its files shows that it ended."""


def remove_leftovers(planned: PreparationPlan, say: Callable[[str], None]) -> None:
    """Remove what preparations of the same name, of other inputs, left a week ago or longer.

    What is younger is named: the same command with the earlier inputs can still resume it.

    Args:
        planned: The preparation that begins.
        say: Prints a line.
    """
    if is_s3(planned.building):
        return
    own = Path(planned.building)
    for folder in sorted(own.parent.glob(f"{BUILDING}*")):
        if folder == own or _is_locked(folder):
            continue
        size, changed = _measure(folder)
        day = time.strftime("%Y-%m-%d", time.localtime(changed))
        facts = f"{folder} ({size / (1 << 20):,.1f} MiB, of {day}), of other inputs or code"
        if time.time() - changed < _KEPT_S:
            say(f"unfinished: {facts}; it can be deleted if no machine is at work on it")
            continue
        shutil.rmtree(folder, ignore_errors=True)
        say(f"removed: {facts}")


def _is_locked(folder: Path) -> bool:
    """Return whether a process runs the preparation of a folder, or one of its workers lives."""
    for name in (RUN_LOCK, WORKERS_LOCK):
        try:
            descriptor = os.open(folder / name, os.O_RDWR)
        except FileNotFoundError:
            continue
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
    return False


def _measure(folder: Path) -> tuple[int, float]:
    """Return the size of a folder, and when something in it last changed."""
    size, changed = 0, folder.stat().st_mtime
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # Another node may be at work.
                status = Path(parent, name).stat()
                size += status.st_size
                changed = max(changed, status.st_mtime)
    return size, changed
