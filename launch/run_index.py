"""Index of all runs of this machine: one SQLite file, rebuilt from the run folders when lost.

The folders are the source of truth. The index saves reading hundreds of them: a finished run is
read again only if one of the files that determine its status has changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launch.errors import LaunchError
from launch.run_row import RunRow
from launch.status import Status
from launch.submission import Submission, read_submission
from launch.targets.local import read_folder

FILE = "index.sqlite"
_VERSION = 1
_STATUS_FILES = ("launch.json", "status.json", "metrics.jsonl")
_TABLE = """
create table if not exists runs (
  run text primary key, target text not null, environment text not null, creator text not null,
  created text not null, jobs text not null, status text not null, stamp text not null
)
"""


class RunIndex:
    """Index of the runs in one folder.

    Args:
        runs: Folder of all run folders.
    """

    def __init__(self, runs: Path):
        self.runs = runs
        self.path = runs / FILE

    def rows(self) -> list[RunRow]:
        """Update the index from the folders that changed, and return every run, oldest first."""
        if not self.runs.is_dir():
            return []
        with self._open() as database:
            stamps = {
                # A local run that is not over may end without writing a file (a killed process),
                # so its stamp never counts as current.
                run: stamp if target != "local" or _parse_status(text).is_over else ""
                for run, target, text, stamp in database.execute(
                    "select run, target, status, stamp from runs"
                )
            }
            folders = {f"{f.parent.name}/{f.name}": f for f in run_folders(self.runs)}
            for deleted in stamps.keys() - folders.keys():
                database.execute("delete from runs where run = ?", (deleted,))
            for run, folder in folders.items():
                stamp = _stamp(folder)
                if stamps.get(run) != stamp:
                    _write(database, _read(run, folder), stamp)
            records = database.execute(
                "select run, target, environment, creator, created, jobs, status from runs "
                "order by created, run"
            ).fetchall()
        return [
            RunRow(
                run,
                target,
                environment,
                creator,
                created,
                tuple(json.loads(jobs)),
                _parse_status(text),
            )
            for run, target, environment, creator, created, jobs, text in records
        ]

    def update_status(self, run: str, status: Status) -> None:
        """Store the status that a run's target reported."""
        with self._open() as database:
            text = json.dumps(dataclasses.asdict(status))
            database.execute("update runs set status = ? where run = ?", (text, run))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Yield the database; a damaged one, or one of another version, is rebuilt.

        Raises:
            LaunchError: The file is locked for long, or cannot be replaced.
        """  # noqa: DOC501 (DatabaseError is caught below)
        for attempt in range(2):
            database = sqlite3.connect(self.path, timeout=30)
            try:
                version = database.execute("pragma user_version").fetchone()[0]
                if version not in (0, _VERSION):
                    raise sqlite3.DatabaseError("written by another version")
                database.execute(_TABLE)
                database.execute(f"pragma user_version = {_VERSION}")
                database.execute("select run, status, stamp from runs limit 1").fetchone()
                break
            except sqlite3.DatabaseError as error:
                database.close()
                if attempt or "locked" in str(error):
                    raise LaunchError(f"{self.path} cannot be used: {error}") from None
                self.path.unlink(missing_ok=True)
        try:
            with database:
                yield database
        finally:
            database.close()


def run_folders(runs: Path) -> Iterator[Path]:
    """Yield the folders of all runs."""
    for path in sorted(runs.glob("*/*")):
        if path.is_symlink() or not path.is_dir():
            continue
        if any((path / name).exists() for name in ("job.yaml", "status.json", "launch.json")):
            yield path


def _read(run: str, folder: Path) -> RunRow:
    try:
        submission = read_submission(folder)
    except LaunchError as error:
        status = Status("training failed", str(error))
        return RunRow(run, "unknown", "", "", _created(folder), (), status)
    if submission is None:
        status = read_folder(folder)
        return RunRow(run, "local", "", _owner(folder), _created(folder), (), status)
    local = submission.target == "local"
    return RunRow(
        run=run,
        target=submission.target,
        environment=submission.environment,
        creator=submission.creator,
        created=submission.created,
        jobs=tuple(attempt.name for attempt in submission.attempts),
        status=read_folder(folder) if local else _recorded_status(submission),
    )


def _parse_status(text: str) -> Status:
    return Status(**json.loads(text))


def _recorded_status(submission: Submission) -> Status:
    """Return what the record alone shows; only the target knows more."""
    if submission.final_status is not None:
        return submission.final_status
    if submission.cancelled:
        return Status("stopped", "before it was submitted")
    return Status("training" if submission.latest.handle else "planned")


def _write(database: sqlite3.Connection, row: RunRow, stamp: str) -> None:
    values = (
        *(row.run, row.target, row.environment, row.creator, row.created),
        *(json.dumps(row.jobs), json.dumps(dataclasses.asdict(row.status)), stamp),
    )
    database.execute("insert or replace into runs values (?, ?, ?, ?, ?, ?, ?, ?)", values)


def _stamp(folder: Path) -> str:
    """Return a string that changes when a file that determines the run's status changes."""
    marks = []
    for name in _STATUS_FILES:
        with contextlib.suppress(OSError):
            stat = (folder / name).stat()
            marks.append(f"{name}:{stat.st_mtime_ns}:{stat.st_size}")
    return " ".join(marks)


def _created(folder: Path) -> str:
    """Return the creation time of a local run, whose id contains it in local time."""
    with contextlib.suppress(ValueError, OverflowError):
        created = time.mktime(time.strptime(folder.name[:15], "%Y%m%d-%H%M%S"))
        return time.strftime("%FT%TZ", time.gmtime(created))
    return time.strftime("%FT%TZ", time.gmtime(folder.stat().st_mtime))


def _owner(folder: Path) -> str:
    with contextlib.suppress(KeyError, OSError):
        return folder.owner()
    return ""
