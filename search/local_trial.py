"""A trial on this machine: a training command in a run folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from catalog.exit_codes import STOPPED
from search.config import SearchSettings
from search.population import branch
from search.prices import price_job
from search.run_metrics import last_stage, metrics_outcome, read_metrics
from search.trial_runner import PricedJob, Trial
from search.trials import TrialOutcome
from training.branching import STOP_STEP_VARIABLE
from training.config import Job, Pipeline
from training.parent_death import signal_on_parent_death
from training.run_folder import is_held, resolved_yaml, write_whole

_HELD_POLL_S = 0.2


class LocalRunner:
    """Runner whose trials are training commands on this machine.

    Args:
        settings: Settings of the search.
        source: Name of the job file, for messages.
        environment: Further environment variables of the trials.
    """

    name = "local"

    def __init__(
        self,
        settings: SearchSettings,
        source: str,
        environment: Mapping[str, str] | None = None,
    ):
        self._settings, self._source, self._environment = settings, source, environment

    def price(self, job: Job | Pipeline) -> PricedJob:
        """Return a job with the most that one start of it can cost, if the search has a limit.

        Raises:
            JobError: It does not fit the machine, or its price is unknown.
        """
        if self._settings.max_cost is None:
            return PricedJob(job)
        return replace(price_job(job, self._settings, self._source, on_sagemaker=False), job=job)

    def attach(self, folder: Path, job: PricedJob) -> Trial | None:
        """Return a part of a run that has reached its step; other trials end with the search."""
        if job.stop_step is None or is_held(folder):
            return None
        loss = loss_at(folder, job.stop_step)
        return None if loss is None else EndedPart(loss)

    def spent_usd(self, folder: Path) -> float | None:
        """Return None: only the ledger knows the cost."""
        return None

    def start(self, folder: Path, job: PricedJob) -> Trial:
        """Start a trial, or resume it from its last checkpoint.

        Args:
            folder: Run folder of the trial.
            job: Its job.
        """
        environment = dict(self._environment or {})
        if job.parent is not None:
            branch(job.parent, folder, job.job)
        if job.stop_step is not None:
            environment[STOP_STEP_VARIABLE] = str(job.stop_step)
        usd = self._settings.usd_per_hour
        return LocalTrial(folder, job.job, environment, usd, job.stop_step)

    def fetch_model(self, folder: Path) -> None:
        """Do nothing: the model is here."""


class LocalTrial:
    """Trial in progress, or one that is resumed.

    Args:
        folder: Run folder of the trial.
        job: The trial's job.
        environment: Further environment variables.
        usd_per_hour: Price of the machine for an hour.
        stop_step: Step after which the trial stops and is complete.
    """

    def __init__(
        self,
        folder: Path,
        job: Job | Pipeline,
        environment: Mapping[str, str] | None = None,
        usd_per_hour: float | None = None,
        stop_step: int | None = None,
    ):
        self.folder, self._usd_per_hour, self._stop_step = folder, usd_per_hour, stop_step
        folder.parent.mkdir(parents=True, exist_ok=True)
        while folder.exists() and is_held(folder):
            # A search that was killed leaves trials that still save a checkpoint.
            time.sleep(_HELD_POLL_S)
        job_file = folder.with_suffix(".yaml")
        write_whole(job_file, resolved_yaml(job))
        command = [sys.executable, "-m", "training", str(job_file), "--folder", str(folder)]
        self._began = time.monotonic()
        with folder.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C is for the search, which stops its trials
                preexec_fn=partial(signal_on_parent_death, signal.SIGTERM),
            )
        self.stopped_early = False

    @property
    def is_over(self) -> bool:
        """True if the command has ended."""
        return self._process.poll() is not None

    @property
    def seconds(self) -> float:
        """Time since the command was started."""
        return time.monotonic() - self._began

    @property
    def losses(self) -> dict[int, float]:
        """Held-out losses of the last stage so far, by number of the evaluation from 1."""
        rows = _rows(last_stage(self.folder) / "metrics.jsonl")
        losses = [float(row["eval_loss"]) for row in rows if "eval_loss" in row]
        return dict(enumerate(losses, start=1))

    def stop(self, *, early: bool = False) -> None:
        """Tell the trial to save a checkpoint and end.

        Args:
            early: Its losses so far are its result.
        """
        self.stopped_early |= early
        if not self.is_over:
            os.kill(self._process.pid, signal.SIGTERM)

    def wait(self) -> None:
        """Wait until the command has ended."""
        self._process.wait()

    def outcome(self, metric: str) -> TrialOutcome | None:
        """Return the result of a trial that is over; None if it was stopped and can be resumed.

        Args:
            metric: Path of the objective.
        """
        seconds, code = self.seconds, self._process.returncode
        if self.stopped_early and code in (STOPPED, 0):
            return TrialOutcome(TrialState.PRUNED, seconds=seconds)
        if code == STOPPED and self._stop_step is not None:
            loss = loss_at(self.folder, self._stop_step)
            return None if loss is None else EndedPart(loss, seconds).outcome(metric)
        if code == STOPPED or code < 0:
            return None
        if code:
            return TrialOutcome(TrialState.FAIL, message=self._message(), seconds=seconds)
        return metrics_outcome(read_metrics(self.folder), metric, seconds)

    def cost_usd(self, before: float) -> float | None:
        """Return the cost of all starts in US dollars; None if the machine has no price.

        Args:
            before: Cost of the starts before the last one.
        """
        if self._usd_per_hour is None:
            return None
        return before + self.seconds / 3600 * self._usd_per_hour

    def _message(self) -> str:
        try:
            return str(json.loads((self.folder / "status.json").read_text())["message"])
        except (OSError, ValueError, KeyError):
            lines = self.folder.with_suffix(".log").read_text(errors="replace").splitlines()
            return lines[-1] if lines else "no message"


@dataclass
class EndedPart:
    """Part of a run that has reached the step after which it stops.

    Attributes:
        loss: Its held-out loss there.
        seconds: Its duration; 0 if an earlier start of the search has seen it.
    """

    loss: float
    seconds: float = 0.0
    stopped_early = False
    is_over = True

    @property
    def losses(self) -> dict[int, float]:
        """No losses: those of parts are not compared while they run."""
        return {}

    def stop(self, *, early: bool = False) -> None:
        """Do nothing: it has ended."""

    def wait(self) -> None:
        """Do nothing: it has ended."""

    def outcome(self, metric: str) -> TrialOutcome:
        """Return its loss as its result.

        Args:
            metric: Path of the objective.
        """
        return metrics_outcome({"validation.loss": self.loss}, metric, self.seconds)

    def cost_usd(self, before: float) -> float | None:
        """Return None: the ledger keeps what was reserved."""
        return None


def loss_at(folder: Path, step: int) -> float | None:
    """Return the held-out loss of a run after a step; None if it was not measured."""
    rows = _rows(folder / "metrics.jsonl")
    losses = [row["eval_loss"] for row in rows if row.get("step") == step and "eval_loss" in row]
    saved = (folder / "checkpoints" / f"checkpoint-{step}").exists()
    return float(losses[-1]) if losses and saved else None


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]
