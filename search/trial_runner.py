"""Protocols of a trial in progress and of the place where trials run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launch.prepared_job import PreparedJob
from search.trials import TrialOutcome
from training.config import Job, Pipeline


@dataclass(frozen=True)
class PricedJob:
    """Job of a trial with the limit of its time and the price of that time.

    Attributes:
        job: The job.
        prepared: The job with its plan; None where it is not needed.
        limit_s: Time after which one start of it ends; None for no limit.
        most_usd: Most that one start can cost in US dollars; None if it is not limited.
        stop_step: Step after which the trial stops and is complete; None for the last one.
        parent: Run folder of the trial whose weights it continues; None for its own.
    """

    job: Job | Pipeline
    prepared: PreparedJob | None = None
    limit_s: float | None = None
    most_usd: float | None = None
    stop_step: int | None = None
    parent: Path | None = None


class Trial(Protocol):
    """A trial in progress, or one that has ended.

    Attributes:
        stopped_early: It was told to stop because of its held-out losses.
    """

    stopped_early: bool

    @property
    def is_over(self) -> bool:
        """True if it has ended."""

    @property
    def seconds(self) -> float:
        """Duration of its last start."""

    @property
    def losses(self) -> Mapping[int, float]:
        """Held-out losses of the last stage so far, by number of the evaluation from 1."""

    def stop(self, *, early: bool = False) -> None:
        """Tell the trial to save a checkpoint and end.

        Args:
            early: Its losses so far are its result.
        """

    def wait(self) -> None:
        """Wait until it has ended."""

    def outcome(self, metric: str) -> TrialOutcome | None:
        """Return the result of a trial that is over; None if it was stopped and can be resumed.

        Args:
            metric: Path of the objective.
        """

    def cost_usd(self, before: float) -> float | None:
        """Return the cost of all starts in US dollars; None if it is unknown.

        Args:
            before: Cost of the starts before the last one.
        """


class TrialRunner(Protocol):
    """Place where trials run.

    Attributes:
        name: Name of the target.
    """

    name: str

    def price(self, job: Job | Pipeline) -> PricedJob:
        """Return a job as it will be sent, with the most that one start of it can cost.

        Raises:
            JobError: It does not fit the machine, or its price is unknown and a limit is set.
        """

    def attach(self, folder: Path, job: PricedJob) -> Trial | None:
        """Return the trial of an earlier start of the search if it runs or has ended.

        Args:
            folder: Run folder of the trial.
            job: Its job.
        """

    def spent_usd(self, folder: Path) -> float | None:
        """Return what the trial in a folder has cost so far; None if only the ledger knows."""

    def start(self, folder: Path, job: PricedJob) -> Trial:
        """Start a trial, or resume it from its last checkpoint.

        Args:
            folder: Run folder of the trial.
            job: Its job.

        Raises:
            TemperError: It cannot be started.
        """

    def fetch_model(self, folder: Path) -> None:
        """Download the model of a finished trial, if it is not here."""
