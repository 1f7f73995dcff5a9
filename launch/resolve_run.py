"""Resolution of the argument RUN of a command to a run."""

from __future__ import annotations

from pathlib import Path

from launch.errors import LaunchError
from launch.run_index import RunIndex, RunRow


def resolve_run(runs: Path, name: str) -> RunRow:
    """Return the run that a user means by `name`; the newest if several match.

    Args:
        runs: Folder of all run folders.
        name: `<name>/<run id>`, `<name>` for its newest run, the name of a job on a target, or a
            path.

    Raises:
        LaunchError: No run matches.
    """
    rows = RunIndex(runs).rows()
    if not name:
        raise LaunchError(f"which run? Name one of these: {_newest(rows)}")
    path = Path(name)
    if path.is_dir():
        name = "/".join(path.resolve().parts[-2:])
    wanted = name.strip("/")
    for match in (_by_id, _by_job, _by_name, _by_prefix):
        if matches := match(rows, wanted):
            return max(matches, key=lambda row: row.created)
    raise LaunchError(f"{name}: no such run in {runs}. Available: {_newest(rows)}")


def _by_id(rows: list[RunRow], wanted: str) -> list[RunRow]:
    return [row for row in rows if wanted in (row.run, row.run.partition("/")[2])]


def _by_job(rows: list[RunRow], wanted: str) -> list[RunRow]:
    return [row for row in rows if wanted in row.jobs]


def _by_name(rows: list[RunRow], wanted: str) -> list[RunRow]:
    return [row for row in rows if row.run.partition("/")[0] == wanted.removesuffix("/latest")]


def _by_prefix(rows: list[RunRow], wanted: str) -> list[RunRow]:
    return [row for row in rows if row.run.startswith(wanted)]


def _newest(rows: list[RunRow]) -> str:
    newest = sorted(rows, key=lambda row: row.created, reverse=True)
    return ", ".join(row.run for row in newest[:5]) or "none yet"
