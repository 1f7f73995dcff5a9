"""Trainings of the trials: commands of the same length for each approach and learning rate."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from advice.candidate_jobs import candidate_job
from advice.facts import Approach
from catalog.exit_codes import STOPPED
from training.errors import Interrupted, RunError
from training.parent_death import signal_on_parent_death
from training.run_folder import RunFolder, resolved_yaml, write_whole

RATE_FACTORS = (1.0, 4.0)
"""Learning rates of each approach, relative to its default."""
_BATCH = 8


@dataclass(frozen=True)
class TrialTraining:
    """Training of one approach with one learning rate.

    Attributes:
        approach: The approach.
        learning_rate: The learning rate.
        folder: Its run folder.
        document: Its job as parsed YAML.
    """

    approach: Approach
    learning_rate: float
    folder: Path
    document: Mapping[str, Any]

    @property
    def is_finished(self) -> bool:
        """True if an earlier start has finished it."""
        return RunFolder(self.folder).state == "finished"


def trial_trainings(
    approach: Approach, document: Mapping[str, Any], rows: Path, folder: Path, steps: int
) -> list[TrialTraining]:
    """Return the trainings of an approach, one for each learning rate.

    Args:
        approach: The approach.
        document: Its job.
        rows: File of the rows to train on.
        folder: Folder of all trials.
        steps: Optimizer steps of each.
    """
    trainings = []
    for factor in RATE_FACTORS:
        job = copy.deepcopy(dict(document))
        rate = float(job["train"]["learning_rate"]) * factor
        job |= {"name": f"trial-{approach.replace('_', '-')}", "precision": "fp32"}
        job["data"] = {
            "train": str(rows),
            "max_length": job["data"]["max_length"],
            "packing": job["data"].get("packing", False),
        }
        job["train"] = {"learning_rate": rate, "max_steps": steps, "global_batch_size": _BATCH}
        job["tracking"] = {"mlflow": False}
        for key in ("resources", "evaluate", "sharding", "checkpoint", "export", "export_formats"):
            job.pop(key, None)
        path = folder / "runs" / f"{approach}-{rate:.2g}-{steps}-steps"
        trainings.append(TrialTraining(approach, rate, path, job))
    return trainings


def train(training: TrialTraining, source: str) -> float:
    """Run a training as a command, unless it is finished, and return its seconds.

    Args:
        training: The training.
        source: The job file, for messages.

    Raises:
        Interrupted: It was stopped; the same command resumes it.
        RunError: It failed.
    """
    if training.is_finished:
        return 0.0
    training.folder.parent.mkdir(parents=True, exist_ok=True)
    job_file = training.folder.with_name(f"{training.folder.name}.yaml")
    write_whole(job_file, resolved_yaml(candidate_job(training.document, source)))
    command = [sys.executable, "-m", "training", str(job_file), "--folder", str(training.folder)]
    began = time.monotonic()
    log_file = training.folder.with_name(f"{training.folder.name}.log")
    with log_file.open("ab") as log:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
            preexec_fn=partial(signal_on_parent_death, signal.SIGTERM),
        )
    if done.returncode == STOPPED or done.returncode < 0:
        raise Interrupted("stopped; the same command resumes the trials")
    if done.returncode:
        last = log_file.read_text(errors="replace").strip().splitlines()[-1:]
        raise RunError(f"the trial in {training.folder} failed: {''.join(last)}. Log: {log_file}")
    return time.monotonic() - began
