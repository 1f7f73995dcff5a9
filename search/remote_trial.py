"""A trial on a cluster or in an AWS account: a run like any other, in the folder of the trial.

The run's name follows from the identifier of the search and the name of the trial, both of which
are on disk before anything is sent. A search that was killed therefore finds its jobs by name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from optuna.trial import TrialState

from launch.errors import LaunchError
from launch.status import Status
from launch.submission import Submission, new_run_id, read_submission
from launch.submit import create_submission, resolve_registered_models, send
from launch.targets.base import Target
from search.config import SearchSettings
from search.prices import price_job
from search.run_metrics import metrics_outcome, read_metrics
from search.trial_runner import PricedJob, Trial
from search.trials import TrialOutcome
from training.config import Job, Pipeline
from training.config.adapter_bases import with_recorded_bases
from training.run_folder import RunFolder, write_whole
from training.tracking.progress_lines import parse_line

ID_FILE = "search_id"
_LOSSES = "held_out_losses.json"
_TRAINED = ("not deployed", "deploying", "deployed")
_MAX_SILENCE_S = 1800.0
_WAIT_S = 2.0


class TrialTarget(Target, Protocol):
    """Target whose runs can be trials."""

    def fetch_reports(self, submission: Submission) -> list[Path]:
        """Download what a run wrote except its model and checkpoints."""


class RemoteRunner:
    """Runner whose trials are runs of a target.

    Args:
        folder: Folder of the search.
        settings: Settings of the search.
        target: The target.
        environment: Environment of the platform; empty for targets that need none.
        job_file: The job file.
        poll_s: Seconds between two questions about the same trial.
    """

    def __init__(
        self,
        folder: Path,
        settings: SearchSettings,
        target: TrialTarget,
        environment: str,
        job_file: Path,
        poll_s: float,
    ):
        self.name: str = target.name
        self._folder, self._settings, self._target = folder, settings, target
        self._environment, self._job_file, self._poll_s = environment, job_file, poll_s
        path = folder / ID_FILE
        if not path.exists():
            write_whole(path, new_run_id() + "\n")
        self._search_id = path.read_text().strip()

    def price(self, job: Job | Pipeline) -> PricedJob:
        """Return a job as it will be sent, with the most that one start of it can cost.

        Raises:
            JobError: It does not fit the machine, or its price is unknown and a limit is set.
        """
        name = self._target.name
        job = resolve_registered_models(job, self._job_file, name, self._environment)
        return price_job(
            with_recorded_bases(job),
            self._settings,
            str(self._job_file),
            on_sagemaker=name == "sagemaker",
        )

    def attach(self, folder: Path, job: PricedJob) -> Trial | None:
        """Return the trial of an earlier start of the search if it runs or has ended.

        Args:
            folder: Run folder of the trial.
            job: Its job.
        """
        submission = read_submission(folder)
        if submission is None:
            return None
        status = self._target.status(submission)
        if status.state in ("planned", "stopped"):
            return None
        return RemoteTrial(submission, self._target, self._settings, self._poll_s)

    def spent_usd(self, folder: Path) -> float | None:
        """Return what the trial in a folder has cost so far; None if only the ledger knows."""
        submission = read_submission(folder)
        if submission is None:
            return 0.0 if self._target.name == "sagemaker" else None
        status = self._target.status(submission)
        if status.state == "planned" and self._target.name == "sagemaker":
            return 0.0
        return billed_usd(status, self._settings)

    def start(self, folder: Path, job: PricedJob) -> Trial:
        """Submit a trial, or resume it from its last checkpoint as another job.

        Args:
            folder: Run folder of the trial.
            job: Its job.

        Raises:
            TemperError: The target does not accept it.
        """
        assert job.prepared is not None
        submission = read_submission(folder)
        prefix = self._target.job_prefix
        if submission is None:
            submission = create_submission(
                folder,
                self._run_name(folder, job),
                job.job,
                target=self._target.name,
                environment=self._environment,
                prefix=prefix,
            )
        elif self._target.status(submission).state != "planned":
            submission = submission.with_new_attempt(prefix)
        sent = send(submission, job.prepared, self._target)
        return RemoteTrial(sent, self._target, self._settings, self._poll_s)

    def fetch_model(self, folder: Path) -> None:
        """Download the model of a finished trial, if it is not here."""
        submission = read_submission(folder)
        if submission is not None and not (folder / "model").exists():
            self._target.fetch(submission, archive=False, checkpoints=False)

    def _run_name(self, folder: Path, job: PricedJob) -> str:
        parts = folder.relative_to(self._folder).parts
        return f"{job.job.name}/{self._search_id}-{'-'.join(parts[-2:])}"


class RemoteTrial:
    """Trial that was submitted to a target.

    Args:
        submission: The run.
        target: Its target.
        settings: Settings of the search.
        poll_s: Seconds between two questions.
    """

    def __init__(
        self, submission: Submission, target: TrialTarget, settings: SearchSettings, poll_s: float
    ):
        self.stopped_early = False
        self._submission, self._target, self._settings = submission, target, settings
        self._poll_s, self._asked_s = poll_s, -float("inf")
        self._status = Status("training")
        self._answered_s = self._began_s = time.monotonic()
        self._losses = _read_losses(submission.folder)

    @property
    def folder(self) -> Path:
        """Run folder on this machine."""
        return self._submission.folder

    @property
    def is_over(self) -> bool:
        """True if the run has ended."""
        self._ask()
        return self._status.is_over

    @property
    def seconds(self) -> float:
        """Time since the search found or submitted the run."""
        return time.monotonic() - self._began_s

    @property
    def losses(self) -> dict[int, float]:
        """Held-out losses of the last stage so far, by number of the evaluation from 1.

        They are read from the log, whose lines have four digits after the decimal point.
        """
        by_step = sorted(self._losses.items())
        return {number: loss for number, (_, loss) in enumerate(by_step, start=1)}

    def stop(self, *, early: bool = False) -> None:
        """Request that the run saves a checkpoint and ends.

        Args:
            early: Its losses so far are its result.
        """
        self.stopped_early |= early
        if not self._target.status(self._submission).is_over:
            self._target.stop(self._submission)

    def wait(self) -> None:
        """Wait until the run has ended."""
        while not self.is_over:
            time.sleep(min(_WAIT_S, self._poll_s))

    def outcome(self, metric: str) -> TrialOutcome | None:
        """Return the result of a run that is over; None if it was stopped and can be resumed.

        Args:
            metric: Path of the objective.
        """
        status = self._status
        seconds = status.seconds if status.seconds is not None else self.seconds
        if self.stopped_early and status.state in ("stopped", *_TRAINED):
            return TrialOutcome(TrialState.PRUNED, seconds=seconds)
        if status.state == "stopped":
            if not status.detail.startswith("exceeded"):
                return None
            message = f"the job {status.detail}"
            return TrialOutcome(TrialState.FAIL, message=message, seconds=seconds)
        if status.state not in _TRAINED:
            return TrialOutcome(TrialState.FAIL, message=status.detail, seconds=seconds)
        self._target.fetch_reports(self._submission)
        RunFolder(self.folder).set_state("finished")
        return metrics_outcome(read_metrics(self.folder), metric, seconds)

    def cost_usd(self, before: float) -> float | None:
        """Return the cost of all starts in US dollars; None if it is unknown.

        Args:
            before: Cost of the starts before the last one.
        """
        billed = billed_usd(self._status, self._settings)
        if billed is None and self._settings.usd_per_hour is not None:
            return before + self.seconds / 3600 * self._settings.usd_per_hour
        return billed

    def _ask(self) -> None:
        """Read the status and the new losses, at most once in `poll_s` seconds.

        Raises:
            LaunchError: The target has not answered for half an hour.
        """
        now_s = time.monotonic()
        if self._status.is_over or now_s - self._asked_s < self._poll_s:
            return
        self._asked_s = now_s
        try:
            status = self._target.status(self._submission)
            if self._settings.early_stopping != "none":
                self._read_log()
        except LaunchError:
            # The run is none the worse for a question that was not answered.
            if now_s - self._answered_s > max(_MAX_SILENCE_S, 3 * self._poll_s):
                raise
            return
        self._status, self._answered_s = status, now_s
        if status.is_over:
            self._submission = replace(self._submission, final_status=status)
            self._submission.write()

    def _read_log(self) -> None:
        lines = self._target.logs(self._submission, follow=False)
        found = held_out_losses(lines, _num_stages(self.folder))
        if found.items() - self._losses.items():
            self._losses |= found
            write_whole(self.folder / _LOSSES, json.dumps(self._losses) + "\n")


def billed_usd(status: Status, settings: SearchSettings) -> float | None:
    """Return the cost of all attempts of a run by its billed time; None if that is unknown."""
    if status.seconds is not None and settings.usd_per_hour is not None:
        return status.seconds / 3600 * settings.usd_per_hour
    return status.cost_usd


def held_out_losses(lines: Iterable[str], num_stages: int) -> dict[int, float]:
    """Return the held-out losses of the last stage in a log, by optimizer step.

    Args:
        lines: Lines of the log.
        num_stages: Number of stages of the job.
    """
    found: dict[int, float] = {}
    stage = 1
    for line in lines:
        if line.startswith("stage "):
            number = line.split()[1].partition("/")[0]
            stage = int(number) if number.isdecimal() else stage
            continue
        if "eval_loss" in line and stage == num_stages:
            values = parse_line(line)
            if "step" in values and "eval_loss" in values:
                found[int(values["step"])] = values["eval_loss"]
    return found


def _num_stages(folder: Path) -> int:
    job = RunFolder(folder).job
    return len(job.stages) if isinstance(job, Pipeline) else 1


def _read_losses(folder: Path) -> dict[int, float]:
    path = folder / _LOSSES
    if not path.exists():
        return {}
    return {int(step): float(loss) for step, loss in json.loads(path.read_text()).items()}
