"""The run's own record: `metrics.jsonl`, `samples.jsonl`, and the lines people watch."""

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
from training.tracking.progress_display import progress_display_for
from training.tracking.progress_lines import evaluation_line
from training.trainer.callbacks import BaseCallback, StepMetrics
from training.trainer.triggers import IntervalTrigger

logger = logging.getLogger(__name__)


class MetricsWriter(BaseCallback):
    """Writes every step's rows, and every logged step's metrics; only on the first process.

    Args:
        folder: The run folder.
        log_every: Which steps are logged.
        max_steps: Length of the run.
        flops_per_token: Forward and backward, for the share of the device's peak; 0 if unknown.
        peak_flops: The device's peak, over all processes; 0 if unknown.
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
        self.peak_memory_gib = 0.0
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
        """Write beside the plan what the run took so far."""
        write_measured(self.folder, steps=self._last_step)

    def on_start(self, model: Any, step: int) -> None:
        """Forget the lines of steps that a resume takes again."""
        for name in ("metrics.jsonl", "samples.jsonl", "looks.jsonl"):
            _cut_after(self.folder / name, step)
        self._display.begin(step)

    def on_step(self, facts: StepMetrics, model: Any) -> None:
        """Write the step's rows, and its metrics when they are due."""
        _append(self.folder / "samples.jsonl", {"step": facts.step, "ids": list(facts.row_ids)})
        self._window.append(facts)
        self._step_seconds.append(facts.seconds)
        self._display.took(facts.step)
        self._last_step = facts.step
        if self.log_every.due(facts.step) or facts.step == self.max_steps:
            self._log(self._metrics(self._window))
            self._window = []
            self.log_every.reset()

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        """Write the held-out loss."""
        _append(
            self.folder / "metrics.jsonl",
            {"step": step, **{f"eval_{name}": value for name, value in metrics.items()}},
        )
        self._display.say(evaluation_line(step, self.max_steps, metrics))

    def _metrics(self, window: list[StepMetrics]) -> dict[str, Any]:
        last = window[-1]
        seconds = max(sum(f.seconds for f in window), 1e-9)
        tokens_per_second = sum(f.tokens for f in window) / seconds
        self.peak_memory_gib = max(self.peak_memory_gib, memory_gib())
        mfu = (
            tokens_per_second * self.flops_per_token / self.peak_flops if self.peak_flops else None
        )
        return {
            "step": last.step,
            "epoch": round(last.epoch, 4),
            "loss": sum(f.loss for f in window) / len(window),
            "learning_rate": last.learning_rate,
            "grad_norm": last.grad_norm,
            "tokens": sum(f.tokens for f in window),
            "supervised_tokens": sum(f.supervised_tokens for f in window),
            "tokens_per_second": round(tokens_per_second, 1),
            "mfu": None if mfu is None else round(mfu, 4),
            "memory_gib": round(memory_gib(), 3),
            "seconds": round(time.monotonic() - self._started, 3),
            **last.extra,
        }

    def _log(self, metrics: dict[str, Any]) -> None:
        _append(self.folder / "metrics.jsonl", metrics)
        recent = self._step_seconds[-20:]
        left = (self.max_steps - metrics["step"]) * sum(recent) / len(recent)
        self._display.logged(metrics, left)


def memory_gib() -> float:
    """Return the memory of this process: the device's peak, or what lies in RAM on a CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return psutil.Process().memory_info().rss / 2**30


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _cut_after(path: Path, step: int) -> None:
    """Drop every line of a step beyond `step`, and a line that was cut off in writing."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            continue
    building = path.with_suffix(".writing")
    building.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    building.replace(path)
