"""Folder of a search: named by its content, so that the same command resumes it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search.job_file import SearchJob
from training.errors import RunError

_NOT_IDENTITY = {"trials", "max_time", "max_cost", "usd_per_hour", "seeds"}
"""Settings that may be changed between two starts of a search: its trials stay the same."""


def search_folder(search: SearchJob, home: Path, place: str = "") -> Path:
    """Return the folder of a search below `home`.

    Args:
        search: The search.
        home: Folder of all searches.
        place: Target and environment of its trials; empty for this machine.
    """
    settings = search.settings.model_dump(mode="json", exclude=_NOT_IDENTITY)
    parts = [search.job.model_dump(mode="json"), settings, *([place] if place else [])]
    content = json.dumps(parts, sort_keys=True)
    return home / search.job.name / hashlib.sha256(content.encode()).hexdigest()[:12]


def holder_of(folder: Path) -> str:
    """Return the process that holds the lock of a search's folder; empty if there is none."""
    path = folder / ".search-lock"
    if not path.exists():
        return ""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            return file.read().strip() or "?"
    return ""


@contextmanager
def hold_exclusively(folder: Path) -> Iterator[None]:
    """Hold the lock of a search's folder, which the kernel releases if the process dies.

    Raises:
        RunError: Another process searches in this folder.
    """
    with (folder / ".search-lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "?"
            raise RunError(
                f"process {holder} searches in {folder}. Wait for it or stop it, or add --join to "
                "run trials of the same search here"
            ) from None
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        yield
