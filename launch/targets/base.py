"""What every place where a job can run must be able to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from launch.status import Status
from launch.submission_record import SubmissionRecord, TargetName

if TYPE_CHECKING:
    from planning import Plan
    from training.config import Job, Pipeline


@dataclass(frozen=True)
class Submission:
    """A run on its way to a target, or there.

    Attributes:
        folder: Its folder on this machine.
        record: What is known of it.
    """

    folder: Path
    record: SubmissionRecord


@dataclass(frozen=True)
class Quote:
    """What a person agrees to before anything is sent.

    Attributes:
        lines: What will be made, read and paid for.
        question: What is asked; empty where nothing is paid for.
    """

    lines: tuple[str, ...]
    question: str = ""


class Target(Protocol):
    """A place where jobs run."""

    name: TargetName

    def offer(self, job: Job | Pipeline, plan: Plan, source: str) -> Quote:
        """Check everything that can be checked before sending, and say what would be done.

        Raises:
            TemperError: With all that is wrong.
        """

    def submit(self, sent: Submission, job: Job | Pipeline, plan: Plan) -> SubmissionRecord:
        """Send the latest attempt; one that is there already is attached to, never repeated."""

    def status(self, sent: Submission) -> Status:
        """Ask where it stands."""

    def logs(self, sent: Submission, *, follow: bool) -> Iterator[str]:
        """Yield what it prints; with `follow` until it is over."""

    def stop(self, sent: Submission) -> str:
        """Tell it to save and end; return what was done."""

    def fetch(self, sent: Submission, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Bring its model and report into the run folder; return what was brought."""

    def belongings(self, sent: Submission) -> list[tuple[str, int]]:
        """Return what it keeps elsewhere, with bytes."""

    def delete(self, sent: Submission) -> list[str]:
        """Delete what it keeps elsewhere; return what could not be deleted, and why."""
