"""Runs as their targets know them, whoever submitted them and from whichever machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from launch.run_row import RunRow
from launch.status import Status
from launch.submission import Attempt, TargetName, attempt_number

RECENT_DAYS = 30
"""Age up to which runs are listed unless all are asked for."""
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}/[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class RemoteRun:
    """Run as its target records it.

    Attributes:
        run: `<name>/<run id>`.
        target: Target that executes the run.
        environment: Environment of the platform; empty for targets that need none.
        creator: Login name of the person who submitted it; empty if unknown.
        created: Time of the first submission, ISO 8601 in UTC.
        attempts: Jobs on the target, oldest first.
        status: Current status.
    """

    run: str
    target: TargetName
    environment: str
    creator: str
    created: str
    attempts: tuple[Attempt, ...]
    status: Status

    def row(self) -> RunRow:
        """Return the run as a row of the table of runs."""
        jobs = tuple(attempt.name for attempt in self.attempts)
        return RunRow(
            self.run, self.target, self.environment, self.creator, self.created, jobs, self.status
        )


@dataclass(frozen=True)
class RunListing:
    """Runs of a target, and what of them could not be read.

    Attributes:
        runs: The runs, oldest first.
        unreadable: One line for each job or folder that could not be read, with the reason.
    """

    runs: tuple[RemoteRun, ...] = ()
    unreadable: tuple[str, ...] = ()


def is_run_name(run: str) -> bool:
    """Return whether a text is `<name>/<run id>`; tags and folder names are written by others."""
    return bool(_RUN.fullmatch(run)) and ".." not in run


def is_job_name(name: object) -> bool:
    """Return whether a text can be the name of a job, and so be part of a script."""
    return isinstance(name, str) and bool(_JOB.fullmatch(name))


def printable(text: str) -> str:
    """Return a text of another person without characters that control a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def merge_attempts(attempts: Iterable[RemoteRun]) -> list[RemoteRun]:
    """Return one run for all of its attempts, oldest run first.

    Machine time and cost are summed. They are None if an earlier attempt is missing, which the
    number at the end of a job's name shows.

    Args:
        attempts: Each job of the target as a run of one attempt, in any order.
    """
    by_run: dict[str, list[RemoteRun]] = {}
    for attempt in attempts:
        by_run.setdefault(attempt.run, []).append(attempt)
    runs = [_merge(sorted(parts, key=_age)) for parts in by_run.values()]
    return sorted(runs, key=lambda run: (run.created, run.run))


def _age(part: RemoteRun) -> tuple[str, int]:
    return part.created, attempt_number(part.attempts[0].name, part.run)


def _merge(parts: list[RemoteRun]) -> RemoteRun:
    first, latest = parts[0], parts[-1]
    complete = attempt_number(latest.attempts[0].name, latest.run) <= len(parts)
    status = replace(
        latest.status,
        seconds=_sum([part.status.seconds for part in parts]) if complete else None,
        cost_usd=_sum([part.status.cost_usd for part in parts]) if complete else None,
    )
    attempts = tuple(attempt for part in parts for attempt in part.attempts)
    return replace(
        latest,
        creator=first.creator or latest.creator,
        created=first.created,
        attempts=attempts,
        status=status,
    )


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
