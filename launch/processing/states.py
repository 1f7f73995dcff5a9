"""States of preparations on this machine, from the marks in their folders. Imports no boto3."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUILDING = ".building-"
PLAN = "plan.json"
_REPORT = "report.json"
_LOCK = "run.lock"
_MARK = re.compile(r"tasks/([a-z]+)/completions/\d+$")


@dataclass(frozen=True)
class PreparationState:
    """State of a preparation.

    Attributes:
        name: Name of the data set, or of the processing job.
        state: State in a word.
        detail: Progress, counts of rows, or the reason of a failure.
    """

    name: str
    state: str
    detail: str

    def line(self) -> str:
        """Return the state as a line of a table."""
        return f"{self.name:<28} {self.state:<12} {self.detail}".rstrip()


def local_preparations(folder: Path = Path("prepared")) -> list[PreparationState]:
    """Return the preparations in a folder of results: those being built, and the latest of each.

    Args:
        folder: `prepare.output` of the jobs.
    """
    return [*_unfinished(folder), *_finished(folder)]


def _unfinished(folder: Path) -> Iterator[PreparationState]:
    for building in sorted(folder.glob(f"*/{BUILDING}*")):
        marks = (path.relative_to(building).as_posix() for path in building.glob("tasks/*/*/*"))
        with suppress(OSError, ValueError, KeyError, TypeError):
            plan = json.loads((building / PLAN).read_text(encoding="utf-8"))
            state = "running" if _is_locked(building / _LOCK) else "interrupted"
            yield PreparationState(building.parent.name, state, describe_progress(plan, marks))


def _finished(folder: Path) -> Iterator[PreparationState]:
    for latest in sorted(folder.glob("*/latest")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            report = json.loads((latest / _REPORT).read_text(encoding="utf-8"))
            read, written = report["rows_read"], report["rows_written"]
            detail = f"{written:,} of {read:,} rows, {latest.parent.name}/{latest.resolve().name}"
            yield PreparationState(latest.parent.name, "prepared", detail)


def describe_progress(plan: Mapping[str, Any], marks: Iterable[str]) -> str:
    """Return how far a preparation is: its current pass, and the finished tasks of it.

    Args:
        plan: Content of `plan.json`: names and numbers of tasks of the passes.
        marks: Paths of marks of finished tasks, below the folder that is built.
    """
    done = Counter(match[1] for mark in marks if (match := _MARK.search(mark)))
    for number, (name, tasks) in enumerate(plan["passes"], start=1):
        if done[name] < tasks:
            return f"pass {number} of {len(plan['passes'])} ({name}): {done[name]} of {tasks} tasks"
    return "writing the report"


def _is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a preparation."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
