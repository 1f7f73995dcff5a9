"""Changes of source files between the plan of a preparation and its result.

The folder of a result is named by the content that the plan read, so that rows of other content
must not get into it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from training.errors import DataError

_LISTED_FILES = 10


@dataclass(frozen=True, slots=True)
class FileState:
    """Size and time of modification of a file, which a change of its content alters."""

    bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Return the state of a file.

        Raises:
            OSError: It cannot be read.
        """
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


def check_unchanged(states: Iterable[tuple[Path, FileState]]) -> None:
    """Check that files are as they were when the plan read them.

    Raises:
        DataError: One is not; the error lists each with what changed.
    """
    changes = [f"{path}: {change}" for path, state in states if (change := _change(path, state))]
    if not changes:
        return
    left = len(changes) - _LISTED_FILES
    listed = changes[:_LISTED_FILES] + ([f"and {left:,} more"] if left > 0 else [])
    raise DataError(
        "a source changed while it was prepared:\n  " + "\n  ".join(listed) + "\nNothing was "
        "published. Run the same command again once nothing writes to the source; it prepares "
        "what is there then"
    )


def _change(path: Path, state: FileState) -> str:
    """Return what changed, or nothing."""
    try:
        now = FileState.of(path)
    except OSError as error:
        return f"it can no longer be read ({error.strerror or error})"
    if now.bytes != state.bytes:
        return f"its size was {state.bytes:,} bytes, and is {now.bytes:,}"
    if now.modified_ns != state.modified_ns:
        return f"it was modified {_time(state.modified_ns)}, and again {_time(now.modified_ns)}"
    return ""


def _time(modified_ns: int) -> str:
    return datetime.fromtimestamp(modified_ns / 1e9).astimezone().isoformat(" ", "milliseconds")
