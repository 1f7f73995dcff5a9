"""Search by a tuning job: create it once, follow it, and read its trials."""

from __future__ import annotations

import json
import math
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.aws.model_output import fetch_model
from launch.errors import LaunchError
from launch.submission import Attempt, Submission, current_user, new_run_id, now
from launch.targets.sagemaker import SageMakerTarget
from search.budget import SearchBudget
from search.job_file import SearchJob
from search.prices import hourly_usd
from search.stop_signals import StopSignals
from search.trial_runner import PricedJob
from search.trials import TrialJournal
from search.tuning_service.problems import evaluations
from search.tuning_service.request import tuning_request
from search.tuning_service.results import add_trial
from search.tuning_service.tuning_jobs import TuningJobs
from training.errors import Interrupted, JobError, Problem
from training.run_folder import write_whole

RECORD = "tuning_job.json"
_LEDGER_NAME = "tuning job"
_MAX_NAME = 32
_FINAL = ("Completed", "Failed", "Stopped")
_CHECK_SIGNALS_S = 0.5

Say = Callable[[str], None]


class TuningSearch:
    """Search by a tuning job in its folder.

    Args:
        search: The search.
        folder: Its folder, which exists.
        target: Account in which the job runs.
        say: Prints a line.

    Attributes:
        journal: Its trials, once the job has ended.
        budget: Its costs.
    """

    def __init__(self, search: SearchJob, folder: Path, target: SageMakerTarget, say: Say):
        self.search, self.folder, self.say = search, folder, say
        self.journal = TrialJournal(folder, search.job.name, search.settings)
        self.budget = SearchBudget(folder, search.settings.max_cost)
        self._target = target
        self._jobs = TuningJobs(target.account.client("sagemaker"))

    @property
    def name(self) -> str:
        """Name of the tuning job, chosen and written down before it is created.

        Raises:
            LaunchError: The prefix of the environment leaves no room for it.
        """
        path = self.folder / RECORD
        if not path.exists():
            suffix = secrets.token_hex(4)
            prefix = self._target.job_prefix
            room = _MAX_NAME - len(suffix) - 1
            if len(prefix) >= room:
                raise LaunchError(f"{prefix} is too long for the name of a tuning job: 32 letters")
            stem = re.sub(r"[^A-Za-z0-9]+", "-", f"{prefix}-{self.search.job.name}")
            record = {"name": f"{stem[:room].rstrip('-')}-{suffix}", "run": new_run_id()}
            write_whole(path, json.dumps(record) + "\n")
        return str(json.loads(path.read_text())["name"])

    @property
    def exists(self) -> bool:
        """True if the tuning job was created, or its trials are in the journal."""
        return bool(self.journal.trials) or (
            (self.folder / RECORD).exists() and self._jobs.find(self.name) is not None
        )

    def num_trials(self, priced: PricedJob, kept_usd: float) -> int:
        """Return how many trials `max_cost` allows for, of those that the search asks for.

        Args:
            priced: The job as written.
            kept_usd: Part of the limit that is kept for the runs with other seeds.

        Raises:
            JobError: A grid cannot be shortened.
        """
        settings = self.search.settings
        if priced.most_usd is None:
            return settings.num_trials
        assert settings.max_cost is not None
        allowed = math.floor((settings.max_cost - kept_usd) / priced.most_usd)
        if settings.is_grid and allowed < settings.grid_size:
            needed = settings.grid_size * priced.most_usd + kept_usd
            problem = Problem(
                "search.max_cost",
                f"allows for {allowed} of the {settings.grid_size} combinations, and the tuning "
                "service trains all of a grid",
                f"{settings.max_cost:.2f} USD",
                f"Set it to {needed:.2f} USD or more, or use sagemaker-random",
            )
            raise JobError(str(self.search.path), [problem])
        return min(settings.num_trials, allowed)

    def create(self, priced: PricedJob, trials: int) -> None:
        """Create the tuning job, unless it exists.

        Args:
            priced: The job as written.
            trials: Number of its trials.

        Raises:
            LaunchError: It cannot be created.
        """
        assert priced.prepared is not None
        self.budget.reserve(_LEDGER_NAME, trials * (priced.most_usd or 0.0), spent=0.0)
        count = evaluations(self.search.job, priced.prepared.plan.steps)
        training_job = self._target.request(self._submission(), priced.prepared)
        request = tuning_request(
            self.name, training_job, self.search.settings, trials=trials, evaluations=count or 1
        )
        self._jobs.create(request)
        self.say(f"tuning job {self.name}: {trials} trials")

    def follow(self, poll_s: float) -> None:
        """Wait for the end of the tuning job, and read its trials.

        Args:
            poll_s: Seconds between two questions.

        Raises:
            Interrupted: A signal ended the wait; the tuning job runs on.
            LaunchError: The tuning job failed, or SageMaker could not be asked.
        """
        if self.journal.trials:
            return
        said = ""
        with StopSignals() as signals:
            while (job := self._described())["HyperParameterTuningJobStatus"] not in _FINAL:
                said = self._say_progress(job, said)
                if self._is_stopped(signals, poll_s):
                    raise Interrupted(
                        f"{self.name} runs on: the same command follows it. It is stopped by `aws "
                        f"sagemaker stop-hyper-parameter-tuning-job --hyper-parameter-tuning-job-"
                        f"name {self.name}`"
                    )
        self._read_trials()
        if job["HyperParameterTuningJobStatus"] == "Failed" and not self.journal.trials:
            raise LaunchError(f"{self.name} failed: {job.get('FailureReason', 'no reason given')}")

    def fetch_model(self, number: int) -> None:
        """Download the model of a finished trial, if it is not here."""
        folder = self.folder / "trials" / f"{number:04d}"
        job = self._target.jobs.find(self.journal.trials[number].user_attrs["job"]) or {}
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "model").exists():
            fetch_model(self._target.store, job, folder, archive=False)

    def _described(self) -> dict[str, Any]:
        job = self._jobs.find(self.name)
        if job is None:
            raise LaunchError(f"SageMaker no longer has the tuning job {self.name}")
        return job

    def _say_progress(self, job: dict[str, Any], said: str) -> str:
        counts = job["TrainingJobStatusCounters"]
        done = counts.get("Completed", 0) + counts.get("Stopped", 0)
        failed = counts.get("NonRetryableError", 0)
        line = f"{self.name}: {done} trials have ended, {counts.get('InProgress', 0)} run"
        line += f", {failed} failed" if failed else ""
        if line != said:
            self.say(line)
        return line

    @staticmethod
    def _is_stopped(signals: StopSignals, poll_s: float) -> bool:
        end = time.monotonic() + poll_s
        while signals.received is None and time.monotonic() < end:
            time.sleep(min(_CHECK_SIGNALS_S, poll_s))
        return signals.received is not None

    def _read_trials(self) -> None:
        """Add all training jobs to the journal, and settle what they cost.

        The journal is written after everything was read: a kill in between leaves it empty, or the
        trials are read again.
        """
        found = []
        for summary in self._jobs.training_jobs(self.name):
            found.append((summary, self._target.jobs.find(summary["TrainingJobName"]) or {}))
        seconds = sum(float(job.get("BillableTimeInSeconds", 0)) for _, job in found)
        hourly = hourly_usd(self.search.job, self.search.settings)
        if hourly is not None:
            self.budget.settle(_LEDGER_NAME, seconds / 3600 * hourly)
        for summary, job in found:
            add_trial(self.journal, self.search.settings, summary, job)

    def _submission(self) -> Submission:
        name = self.name
        run = str(json.loads((self.folder / RECORD).read_text())["run"])
        return Submission(
            folder=self.folder / "tuning",
            run=f"{self.search.job.name}/{run}",
            target="sagemaker",
            environment=self._target.account.environment.name,
            creator=current_user(),
            created=now(),
            attempts=(Attempt(name),),
        )
