"""Runs of a job, in this process or by the command line, and what they logged."""

from __future__ import annotations

import gc
import json
import math
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Logged:
    """Steps that a run logged in its folder.

    Attributes:
        path: The run folder.
        wall_s: Seconds that the run took.
        peak_gib: Peak of the GPU's allocator; None on a CPU and for a run by the command line.
    """

    path: Path
    wall_s: float = 0.0
    peak_gib: float | None = None

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Logged steps, without evaluations; the last line of a step counts, after a resume too."""
        lines = (self.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = {row["step"]: row for row in map(json.loads, lines) if "loss" in row}
        return [rows[number] for number in sorted(rows)]

    @property
    def losses(self) -> list[float]:
        """Loss of each step."""
        return [row["loss"] for row in self.steps]

    @property
    def grad_norms(self) -> list[float]:
        """Gradient norm of each step; NaN if it was not finite."""
        return [math.nan if (n := row["grad_norm"]) is None else n for row in self.steps]

    @property
    def row_ids(self) -> dict[int, list[str]]:
        """Ids of the rows of each step."""
        lines = (self.path / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        return {row["step"]: row["ids"] for row in map(json.loads, lines)}

    def summary(self) -> dict[str, Any]:
        """Return the values that every training row has."""
        values = {
            "first_loss": self.losses[0],
            "last_loss": self.losses[-1],
            "steps": len(self.losses),
            "wall_s": round(self.wall_s, 2),
        }
        return values if self.peak_gib is None else {**values, "peak_gib": round(self.peak_gib, 3)}


def train(document: dict[str, Any], folder: Path) -> Logged:
    """Train a job in this process, or resume it if `folder` has checkpoints of it."""
    import torch

    from training.config.load import parse_job
    from training.pipeline import run
    from training.run_folder import RunFolder

    job = parse_job({**document, "train": {"log_every": 1, **document["train"]}}, "GPU benchmark")
    release_memory()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.monotonic()
    run(RunFolder.create(folder, job))
    taken = time.monotonic() - started
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
    release_memory()
    return Logged(folder, taken, peak)


def train_until(document: dict[str, Any], folder: Path, step: int) -> None:
    """Train a job in this process and lose the process after a step, as a power failure would.

    Args:
        document: The job.
        folder: Its run folder.
        step: The last step.
    """
    from transformers import TrainerCallback, trainer

    class PowerFailureError(Exception):
        """End of the process after a step."""

    class FailingCallback(TrainerCallback):
        """Callback that raises after a step."""

        def on_step_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            """Raise before the next step; the checkpoint of the last one has been written."""
            if state.global_step >= step:
                raise PowerFailureError

    failing = FailingCallback()
    with default_callback(trainer, failing):
        try:
            train(document, folder)
        except PowerFailureError:
            return
    raise AssertionError(f"the run did not reach step {step}")


@contextmanager
def default_callback(trainer: Any, callback: Any) -> Any:
    """Add a callback to every trainer of Transformers that is created in the context."""
    trainer.DEFAULT_CALLBACKS.append(callback)
    try:
        yield
    finally:
        trainer.DEFAULT_CALLBACKS.remove(callback)


def train_by_command(document: dict[str, Any], folder: Path, *options: str) -> Logged:
    """Train a job by the command line.

    Raises:
        RuntimeError: It failed; the message is the end of its output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job = folder / "job.yaml"
    steps = {"log_every": 1, **document["train"]}
    job.write_text(yaml.safe_dump({**document, "train": steps}), encoding="utf-8")
    started = time.monotonic()
    run_command([str(job), "--runs", str(folder / "runs"), *options], folder)
    taken = time.monotonic() - started
    return Logged((folder / "runs" / document["name"] / "latest").resolve(), taken)


def run_command(arguments: list[str], cwd: Path) -> None:
    """Run `python -m training` to its end.

    Raises:
        RuntimeError: It failed; the message is the end of its output.
    """
    done = subprocess.run(
        [sys.executable, "-m", "training", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {(done.stderr + done.stdout)[-1500:]}")


def release_memory() -> None:
    """Free what the last run left, so that the next one starts with an empty allocator."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
