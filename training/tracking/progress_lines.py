"""Console line of a logged step, and the regular expressions that read it back.

The launcher passes the expressions to SageMaker as metric definitions, which CloudWatch applies to
the log of a job.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from training.step_metrics import LOGGED_METRICS

_IN_LINE = tuple(metric for metric in LOGGED_METRICS if metric.line_label)

METHOD_METRICS = ("reward", "accuracy", "margin", "kl")
"""Metrics that a method may add to a step, and that the line then ends with."""
EVALUATION_METRICS = ("loss", "perplexity", "reward", "accuracy", "margin", "kl")
"""Metrics of the held-out rows that CloudWatch receives."""

METRIC_PATTERNS = {
    "step": r"step +(\d+)/\d+",
    **{metric.key: metric.pattern for metric in _IN_LINE},
    **{name: rf"\| {name} (\S+)" for name in METHOD_METRICS},
    **{f"eval_{name}": rf"\| eval_{name} (\S+)" for name in EVALUATION_METRICS},
}
"""Regular expressions by metric key; the first group of each is the value."""

_SAMPLE_SIZES = {"tokens", "rows", "good_rows", "bad_rows"}
"""Evaluation results that count what was evaluated, and are left out of the line."""


def progress_line(metrics: Mapping[str, Any], max_steps: int, eta_s: float | None = None) -> str:
    """Return the console line of a logged step.

    Args:
        metrics: Row of `metrics.jsonl`.
        max_steps: Length of the run.
        eta_s: Estimated seconds until the end of training; left out if None.
    """
    parts = [f"step {metrics['step']:>6}/{max_steps}"]
    parts += [metric.line(metrics[metric.key]) for metric in _IN_LINE]
    parts += [f"{name} {metrics[name]:.4f}" for name in METHOD_METRICS if name in metrics]
    return " | ".join(parts if eta_s is None else [*parts, f"eta {clock(eta_s)}"])


def evaluation_line(step: int, max_steps: int, metrics: dict[str, float]) -> str:
    """Return the console line of an evaluation.

    Args:
        step: Optimizer steps done.
        max_steps: Length of the run.
        metrics: Results on the held-out rows.
    """
    shown = [
        f"eval_{name} {value:.{2 if name == 'perplexity' else 4}f}"
        for name, value in metrics.items()
        if name not in _SAMPLE_SIZES
    ]
    return " | ".join([f"step {step:>6}/{max_steps}", *shown])


def parse_line(line: str) -> dict[str, float]:
    """Return the values of a progress line by metric key, NaN and infinity included."""
    values = {}
    for name, pattern in METRIC_PATTERNS.items():
        if (match := re.search(pattern, line)) and match[1] != "-":
            values[name] = float(match[1])
    return values


def clock(seconds: float) -> str:
    """Return a duration as `45s`, `3m20s` or `2h05m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
