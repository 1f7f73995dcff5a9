"""The protocol that every target implements, and the quote that precedes a submission."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from launch.status import Status
from launch.submission import Submission, TargetName

if TYPE_CHECKING:
    from launch.prepared_job import PreparedJob
    from launch.remote_runs import RemoteRun, RunListing
    from training.config import Job, Pipeline


@dataclass(frozen=True)
class Quote:
    """Statement of what a submission creates, reads and costs, which the user confirms.

    Attributes:
        lines: What will be created, read and charged.
        question: Question to confirm; empty if nothing is charged.
        agreement: License that the user must accept; empty if there is none.
    """

    lines: tuple[str, ...]
    question: str = ""
    agreement: str = ""


class Target(Protocol):
    """Place where jobs run: this machine, a cluster, or a cloud account."""

    name: TargetName

    @property
    def job_prefix(self) -> str:
        """First part of every job's name, if the target's policies require one; else empty."""

    def quote(self, prepared: PreparedJob) -> Quote:
        """Check everything that can be checked before sending, and return what would be done.

        Raises:
            TemperError: The job cannot run on this target; lists every problem.
        """

    def submit(self, submission: Submission, prepared: PreparedJob) -> Submission:
        """Start the latest attempt, or attach to it if the target already has it.

        Returns:
            The submission with the target's identifier of the job.
        """

    def status(self, submission: Submission) -> Status:
        """Return the current status of a run."""

    def logs(self, submission: Submission, *, follow: bool) -> Iterator[str]:
        """Yield the output lines of a run; with `follow`, until the run is over."""

    def stop(self, submission: Submission) -> str:
        """Request that a run saves a checkpoint and ends; return a message for the user."""

    def fetch(self, submission: Submission, *, archive: bool, checkpoints: bool) -> list[Path]:
        """Download the model and the report into the run folder.

        Args:
            submission: The run.
            archive: Keep the model packed, as `model.tar.gz`.
            checkpoints: Download the checkpoints too.

        Returns:
            The downloaded files and folders.
        """

    def remote_storage(self, submission: Submission) -> list[tuple[str, int]]:
        """Return what a run stores on the target: locations with their sizes in bytes."""

    def delete(self, submission: Submission) -> list[str]:
        """Delete what a run stores on the target; return what could not be deleted, and why."""


class SharedTarget(Target, Protocol):
    """Target whose runs several people see: every one but this machine."""

    def list_runs(self, days: int | None) -> RunListing:
        """Return the runs of everyone; with `days`, only those that are not older.

        Raises:
            LaunchError: The target could not be asked.
        """

    def job_document(self, run: RemoteRun) -> str:
        """Return a run's job file, in which inputs have addresses that outlive its machines.

        Raises:
            LaunchError: The file is missing, or could not be read.
        """

    def quote_restart(self, submission: Submission) -> Quote:
        """Return what a restart of the latest attempt creates and costs."""

    def restart(self, submission: Submission) -> Submission:
        """Submit the previous attempt's job again, as the latest attempt.

        The job is sent as it was, so neither its inputs nor a plan is needed on this machine.
        """


@runtime_checkable
class ResolvesModels(Protocol):
    """Target that knows models by names of its own."""

    def resolve_models(self, job: Job | Pipeline, source: str) -> Job | Pipeline:
        """Return the job with these names replaced by addresses.

        Args:
            job: The job.
            source: Name of the job file, for messages.
        """
