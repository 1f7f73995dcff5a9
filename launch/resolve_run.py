"""The run a person means by `RUN=…`."""

from __future__ import annotations

from pathlib import Path

from launch.errors import LaunchError
from launch.run_index import RunIndex, RunRow


def find_run(runs: Path, name: str) -> RunRow:
    """Return the run called `name`.

    Args:
        runs: Where run folders are.
        name: `<name>/<run id>`, `<name>` for its newest run, the name of a job on a target, or a
            path.

    Raises:
        LaunchError: There is none, or several.
    """
    rows = RunIndex(runs).rows()
    if not name:
        raise LaunchError(f"which run? RUN=… takes one of these: {_some(rows)}")
    path = Path(name)
    if path.is_dir():
        name = "/".join(path.resolve().parts[-2:])
    wanted = name.strip("/")
    for match in (_by_id, _by_job, _by_name, _by_beginning):
        if found := match(rows, wanted):
            return max(found, key=lambda row: row.created)
    raise LaunchError(f"RUN={name}: there is no such run in {runs}. There are: {_some(rows)}")


def _by_id(rows: list[RunRow], wanted: str) -> list[RunRow]:
    return [row for row in rows if wanted in (row.run, row.run.partition("/")[2])]


def _by_job(rows: list[RunRow], wanted: str) -> list[RunRow]:
    return [row for row in rows if wanted in row.jobs]


def _by_name(rows: list[RunRow], wanted: str) -> list[RunRow]:
    return [row for row in rows if row.run.partition("/")[0] == wanted.removesuffix("/latest")]


def _by_beginning(rows: list[RunRow], wanted: str) -> list[RunRow]:
    return [row for row in rows if row.run.startswith(wanted)]


def _some(rows: list[RunRow]) -> str:
    newest = sorted(rows, key=lambda row: row.created, reverse=True)
    return ", ".join(row.run for row in newest[:5]) or "none yet"
