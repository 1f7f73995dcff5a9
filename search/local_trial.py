"""A trial on this machine: a training command in a run folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from catalog.exit_codes import STOPPED
from search.trials import TrialOutcome
from training.config import Job, Pipeline
from training.parent_death import signal_on_parent_death
from training.run_folder import RunFolder, is_held, resolved_yaml, write_whole

_HELD_POLL_S = 0.2


class LocalTrial:
    """Trial in progress, or one that is resumed.

    Args:
        folder: Run folder of the trial.
        job: The trial's job.
        environment: Further environment variables.
    """

    def __init__(
        self, folder: Path, job: Job | Pipeline, environment: Mapping[str, str] | None = None
    ):
        self.folder = folder
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
    def losses(self) -> dict[int, float]:
        """Held-out losses of the last stage so far, by number of the evaluation from 1."""
        rows = _rows(_last_stage(self.folder) / "metrics.jsonl")
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
        seconds = time.monotonic() - self._began
        code = self._process.returncode
        if self.stopped_early and code in (STOPPED, 0):
            return TrialOutcome(TrialState.PRUNED, seconds=seconds)
        if code == STOPPED or code < 0:
            return None
        if code:
            return TrialOutcome(TrialState.FAIL, message=self._message(), seconds=seconds)
        metrics = read_metrics(self.folder)
        if metric not in metrics:
            known = ", ".join(sorted(metrics)) or "nothing"
            message = f"the objective {metric} was not measured; the trial measured {known}"
            return TrialOutcome(TrialState.FAIL, message=message, seconds=seconds)
        return TrialOutcome(TrialState.COMPLETE, metrics[metric], metrics, seconds=seconds)

    def _message(self) -> str:
        try:
            return str(json.loads((self.folder / "status.json").read_text())["message"])
        except (OSError, ValueError, KeyError):
            lines = self.folder.with_suffix(".log").read_text(errors="replace").splitlines()
            return lines[-1] if lines else "no message"


def read_metrics(folder: Path) -> dict[str, float]:
    """Return the numbers that a finished run measured at its end, by dotted path."""
    path = _last_stage(folder) / "evaluation.json"
    if not path.exists():
        return {}
    return dict(_numbers(json.loads(path.read_text()).get("after", {})))


def _numbers(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in document.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((f"{prefix}{key}", float(value)))
    return found


def _last_stage(folder: Path) -> Path:
    job = RunFolder(folder)
    if not (folder / "job.yaml").exists():
        return folder
    stages = getattr(job.job, "stages", None)
    if stages is None:
        return folder
    return folder / "stages" / f"{len(stages):02d}-{stages[-1].name}"


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]
