"""Row of a table of runs: one run with its status."""

from __future__ import annotations

from dataclasses import dataclass

from launch.status import Status


@dataclass(frozen=True)
class RunRow:
    """Row of the index: one run.

    Attributes:
        run: `<name>/<run id>`.
        target: Target that executes the run.
        environment: Environment of the platform, or empty.
        creator: Login name of the person who started it; empty if unknown.
        created: Time of creation, ISO 8601 in UTC.
        jobs: Names of its jobs on the target, oldest first.
        status: Last known status.
    """

    run: str
    target: str
    environment: str
    creator: str
    created: str
    jobs: tuple[str, ...]
    status: Status
