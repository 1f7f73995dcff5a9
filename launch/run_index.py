"""All runs of this machine in one SQLite file, made anew from the run folders whenever it is lost.

The folders are the truth. The file spares reading hundreds of them: a run that is over is read
again only when one of the files that tell its state has changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launch.errors import LaunchError
from launch.status import Status
from launch.submission_record import SubmissionRecord, read_submission_record
from launch.targets.local import read_folder

FILE = "index.sqlite"
_VERSION = 1
_TELLING = ("launch.json", "status.json", "metrics.jsonl")
_TABLE = """
create table if not exists runs (
  run text primary key, target text not null, environment text not null, creator text not null,
  created text not null, jobs text not null, status text not null, stamp text not null
)
"""


@dataclass(frozen=True)
class RunRow:
    """A run in the index.

    Attributes:
        run: `<name>/<run id>`.
        target: Where it runs.
        environment: Of the platform, or empty.
        creator: Who started it, where that is known.
        created: When, as ISO 8601 in UTC.
        jobs: Names of its jobs on the target, oldest first.
        status: As last seen.
    """

    run: str
    target: str
    environment: str
    creator: str
    created: str
    jobs: tuple[str, ...]
    status: Status


class RunIndex:
    """The index of one folder of runs.

    Args:
        runs: Where run folders are.
    """

    def __init__(self, runs: Path):
        self.runs = runs
        self.path = runs / FILE

    def rows(self) -> list[RunRow]:
        """Return every run, oldest first; what changed on disk is read before."""
        if not self.runs.is_dir():
            return []
        with self._open() as database:
            known = {
                run: stamp if target != "local" or _status(text).is_over else ""
                for run, target, text, stamp in database.execute(
                    "select run, target, status, stamp from runs"
                )
            }
            folders = {f"{f.parent.name}/{f.name}": f for f in run_folders(self.runs)}
            for gone in known.keys() - folders.keys():
                database.execute("delete from runs where run = ?", (gone,))
            for run, folder in folders.items():
                stamp = _stamp(folder)
                if known.get(run) != stamp:
                    _write(database, _read(run, folder), stamp)
            found = database.execute(
                "select run, target, environment, creator, created, jobs, status from runs "
                "order by created, run"
            ).fetchall()
        return [
            RunRow(
                run, target, environment, creator, created, tuple(json.loads(jobs)), _status(text)
            )
            for run, target, environment, creator, created, jobs, text in found
        ]

    def saw(self, run: str, status: Status) -> None:
        """Keep where a run stood when its target was asked."""
        with self._open() as database:
            text = json.dumps(dataclasses.asdict(status))
            database.execute("update runs set status = ? where run = ?", (text, run))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Give the database; one that is damaged or of another version is begun anew."""
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
        record = read_submission_record(folder)
    except LaunchError as error:
        status = Status("training failed", str(error))
        return RunRow(run, "unknown", "", "", _made(folder), (), status)
    if record is None:
        return RunRow(run, "local", "", _owner(folder), _made(folder), (), read_folder(folder))
    return RunRow(
        run=run,
        target=record.target,
        environment=record.environment,
        creator=record.creator,
        created=record.created,
        jobs=tuple(attempt.name for attempt in record.attempts),
        status=read_folder(folder) if record.target == "local" else record.seen or _sent(record),
    )


def _status(text: str) -> Status:
    return Status(**json.loads(text))


def _sent(record: SubmissionRecord) -> Status:
    if record.cancelled:
        return Status("stopped", "before it was submitted")
    return Status("training" if record.latest.handle else "planned")


def _write(database: sqlite3.Connection, row: RunRow, stamp: str) -> None:
    values = (
        *(row.run, row.target, row.environment, row.creator, row.created),
        *(json.dumps(row.jobs), json.dumps(dataclasses.asdict(row.status)), stamp),
    )
    database.execute("insert or replace into runs values (?, ?, ?, ?, ?, ?, ?, ?)", values)


def _stamp(folder: Path) -> str:
    """Return a mark of the files that tell a run's state; it changes when one of them does."""
    marks = []
    for name in _TELLING:
        with contextlib.suppress(OSError):
            found = (folder / name).stat()
            marks.append(f"{name}:{found.st_mtime_ns}:{found.st_size}")
    return " ".join(marks)


def _made(folder: Path) -> str:
    """Return when a local run was begun: its id says so, in the time of this machine."""
    with contextlib.suppress(ValueError, OverflowError):
        begun = time.mktime(time.strptime(folder.name[:15], "%Y%m%d-%H%M%S"))
        return time.strftime("%FT%TZ", time.gmtime(begun))
    return time.strftime("%FT%TZ", time.gmtime(folder.stat().st_mtime))


def _owner(folder: Path) -> str:
    with contextlib.suppress(KeyError, OSError):
        return folder.owner()
    return ""
