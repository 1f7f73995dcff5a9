"""One line per logged step, and the patterns that read it back.

The launcher hands the same patterns to SageMaker as metric definitions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

METRIC_PATTERNS = {
    "step": r"step +(\d+)/\d+",
    "loss": r"\| loss (\S+)",
    "learning_rate": r"\| lr (\S+)",
    "grad_norm": r"\| grad_norm (\S+)",
    "tokens_per_second": r"\| tok/s (\S+)",
    "memory_gib": r"\| mem (\S+)GiB",
    "eval_loss": r"\| eval_loss (\S+)",
}


_COUNTS = {"tokens", "rows", "good_rows", "bad_rows"}
"""What a measure was taken over: of no interest while a run goes on."""


def progress_line(metrics: Mapping[str, Any], max_steps: int, eta_s: float) -> str:
    """Return one logged step as a line of text."""
    norm = metrics["grad_norm"]
    return (
        f"step {metrics['step']:>6}/{max_steps} "
        f"| loss {metrics['loss']:.4f} "
        f"| lr {metrics['learning_rate']:.2e} "
        f"| grad_norm {'-' if norm is None else f'{norm:.3f}'} "
        f"| tok/s {metrics['tokens_per_second']:.0f} "
        f"| mem {metrics['memory_gib']:.2f}GiB "
        f"| eta {clock(eta_s)}"
    )


def evaluation_line(step: int, max_steps: int, metrics: dict[str, float]) -> str:
    """Return one evaluation as a line of text: the loss, and whatever else was measured."""
    shown = [
        f"eval_{name} {value:.{2 if name == 'perplexity' else 4}f}"
        for name, value in metrics.items()
        if name not in _COUNTS
    ]
    return " | ".join([f"step {step:>6}/{max_steps}", *shown])


def parse_line(line: str) -> dict[str, float]:
    """Return the numbers of a progress line, by metric name; NaN and inf included."""
    found = {}
    for name, pattern in METRIC_PATTERNS.items():
        if (match := re.search(pattern, line)) and match[1] != "-":
            found[name] = float(match[1])
    return found


def clock(seconds: float) -> str:
    """Return seconds as 45s, 3m20s or 2h05m."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
