"""Resolution of the argument RUN of a command to a run."""

from __future__ import annotations

from pathlib import Path

from launch.errors import NoSuchRunError
from launch.run_index import RunIndex
from launch.run_row import RunRow


def resolve_run(runs: Path, name: str) -> RunRow:
    """Return the run that a user means by `name`; the newest if several match.

    Args:
        runs: Folder of all run folders.
        name: `<name>/<run id>`, `<name>` for its newest run, the name of a job on a target, or a
            path.

    Raises:
        NoSuchRunError: No run matches.
    """
    rows = RunIndex(runs).rows()
    if not name:
        raise NoSuchRunError(f"which run? Name one of these: {newest_names(rows)}")
    path = Path(name)
    wanted = "/".join(path.resolve().parts[-2:]) if path.is_dir() else name.strip("/")
    row = match_rows(rows, wanted)
    if row is None:
        raise NoSuchRunError(
            f"{name}: no such run in {runs}. Available: {newest_names(rows)}. Runs of other "
            "people: temper status --env NAME"
        )
    return row


def find_run_folder(runs: Path, name: str) -> Path | None:
    """Return the folder of the run that a name means exactly; None if it means none.

    Args:
        runs: Folder of all run folders.
        name: `<name>/<run id>`, `<name>` for its newest run, or the name of a job on a target.
    """
    rows = RunIndex(runs).rows()
    for match in (_by_id, _by_job, _by_name):
        if matches := match(rows, name.strip("/")):
            return runs / max(matches, key=lambda row: row.created).run
    return None


def match_rows(rows: list[RunRow], wanted: str) -> RunRow | None:
    """Return the newest of the rows that a name means; None if it means none of them.

    Args:
        rows: The runs to choose from.
        wanted: A run, its id, the name of one of its jobs, the name of its job file, or the
            beginning of one of these.
    """
    for match in (_by_id, _by_job, _by_name, _by_prefix):
        if matches := match(rows, wanted):
            return max(matches, key=lambda row: row.created)
    return None


def _by_id(rows: list[RunRow], wanted: str) -> list[RunRow]:
    return [row for row in rows if wanted in (row.run, row.run.partition("/")[2])]


def _by_job(rows: list[RunRow], wanted: str) -> list[RunRow]:
    return [row for row in rows if wanted in row.jobs]


def _by_name(rows: list[RunRow], wanted: str) -> list[RunRow]:
    return [row for row in rows if row.run.partition("/")[0] == wanted.removesuffix("/latest")]


def _by_prefix(rows: list[RunRow], wanted: str) -> list[RunRow]:
    return [row for row in rows if row.run.startswith(wanted)]


def newest_names(rows: list[RunRow]) -> str:
    """Return the names of the newest runs, for a message."""
    newest = sorted(rows, key=lambda row: row.created, reverse=True)
    return ", ".join(row.run for row in newest[:5]) or "none yet"
