"""Writer of `metrics.jsonl` and `samples.jsonl`, and of the progress on the console."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import torch

from training.report.plan_vs_actual import write_measured
from training.step_metrics import MetricWindow, StepMetrics, step_row
from training.tracking.progress_display import progress_display_for
from training.tracking.progress_lines import evaluation_line
from training.trainer.callbacks import BaseCallback
from training.trainer.triggers import IntervalTrigger
from validation.json_lines import split_lines

logger = logging.getLogger(__name__)

_ETA_STEPS = 20
"""Recent steps whose mean duration the estimated time of arrival is based on."""


class MetricsWriter(BaseCallback):
    """Callback of the first process that writes the row ids of each step and the logged metrics.

    Args:
        folder: The run folder.
        log_every: Trigger of the steps whose metrics are logged.
        max_steps: Length of the run.
        flops_per_token: FLOPs of forward and backward for one token; 0 if unknown.
        peak_flops: Peak FLOPs per second of all devices together; 0 if unknown.
    """

    def __init__(
        self,
        folder: Path,
        log_every: IntervalTrigger,
        max_steps: int,
        flops_per_token: float = 0.0,
        peak_flops: float = 0.0,
    ):
        self.folder = folder
        self.log_every = log_every
        self.max_steps = max_steps
        self.flops_per_token = flops_per_token
        self.peak_flops = peak_flops
        self._window: list[StepMetrics] = []
        self._step_seconds: list[float] = []
        self._started = time.monotonic()
        self._last_step = 0
        self._display = progress_display_for(sys.stdout, max_steps)

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._display.end()
        self.write_measured()

    def write_measured(self) -> None:
        """Write the memory and time used so far to `plan.json`, next to the prediction."""
        write_measured(self.folder, steps=self._last_step)

    def on_start(self, model: Any, step: int) -> None:
        """Remove the lines of steps after the checkpoint that training resumes from.

        Those steps run again; without this, each would appear twice.
        """
        for name in ("metrics.jsonl", "samples.jsonl", "looks.jsonl"):
            _truncate_after(self.folder / name, step)
        self._display.begin(step)

    def on_step(self, facts: StepMetrics, model: Any) -> None:
        """Write the row ids of a step and, if a log is due, its metrics."""
        _append(self.folder / "samples.jsonl", {"step": facts.step, "ids": list(facts.row_ids)})
        self._window.append(facts)
        self._step_seconds.append(facts.seconds)
        self._display.advance(facts.step)
        self._last_step = facts.step
        if self.log_every.due(facts.step) or facts.step == self.max_steps:
            self._log()
            self._window = []
            self.log_every.reset()

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        """Write the results on the held-out rows."""
        _append(
            self.folder / "metrics.jsonl",
            {"step": step, **{f"eval_{name}": value for name, value in metrics.items()}},
        )
        self._display.print(evaluation_line(step, self.max_steps, metrics))

    def _log(self) -> None:
        metrics = step_row(
            MetricWindow(
                self._window,
                time.monotonic() - self._started,
                memory_gib(),
                self.flops_per_token,
                self.peak_flops,
            )
        )
        _append(self.folder / "metrics.jsonl", metrics)
        recent = self._step_seconds[-_ETA_STEPS:]
        eta_s = (self.max_steps - metrics["step"]) * sum(recent) / len(recent)
        self._display.show(metrics, eta_s)


def memory_gib() -> float:
    """Return the peak memory of this process on its GPU, or its resident memory on a CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return psutil.Process().memory_info().rss / 2**30


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _truncate_after(path: Path, step: int) -> None:
    """Remove every line of a step after `step`, and a last line that was written in part.

    The file is replaced, not edited in place, so that a kill at any time leaves the old or the new
    one; `MlflowSync` notices the new inode and starts again.
    """
    if not path.exists():
        return
    kept = []
    for line in split_lines(path.read_text(encoding="utf-8")):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            continue
    temporary = path.with_suffix(".writing")
    temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    temporary.replace(path)
