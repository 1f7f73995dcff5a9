"""Claims of trials by the processes that share the folder of a search."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

FOLDER = "claims"


class TrialClaims:
    """Claims of one process, of which each trial has one at most.

    A claim is a lock on a file of the trial. The kernel releases it if the process dies, and the
    file server (NFS 4, FSx for Lustre mounted with `flock`) if its machine does, so that another
    process can take the trial over.

    Args:
        folder: Folder of the search.
    """

    def __init__(self, folder: Path):
        self._folder = folder / FOLDER
        self._folder.mkdir(exist_ok=True)
        self._held: dict[int, IO[str]] = {}

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait for the lock under which trials are suggested and claimed, and hold it."""
        with lock_file(self._folder / "suggestions.lock"):
            yield

    def take(self, number: int) -> bool:
        """Claim a trial; return False if another process has it."""
        if number in self._held:
            return True
        file = self._path(number).open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        file.truncate(0)
        file.write(f"{os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        self._held[number] = file
        return True

    def release(self, number: int) -> None:
        """Give up the claim of a trial, if this process has it."""
        if file := self._held.pop(number, None):
            file.close()

    def is_taken(self, number: int) -> bool:
        """Return whether another process has a trial."""
        if number in self._held or not self._path(number).exists():
            return False
        with self._path(number).open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    @property
    def holder(self) -> str:
        """A process that has a trial; empty if there is none."""
        taken = (int(path.name) for path in self._folder.glob("[0-9]*"))
        for number in taken:
            if self.is_taken(number):
                return self._path(number).read_text().strip() or "?"
        return ""

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:04d}"


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Wait for the lock of a file, which is created, and hold it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
