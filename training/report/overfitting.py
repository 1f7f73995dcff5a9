"""Detection of overfitting from the held-out losses of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

_RISE = 0.02
"""Relative rise of the held-out loss above its minimum from which on it is called overfitting."""


def overfitting(
    steps: Sequence[int], losses: Sequence[float], *, kept_step: int | None = None
) -> str | None:
    """Return a sentence about a held-out loss that rose again, or None.

    Args:
        steps: Optimizer steps of the evaluations; the first may be 0, before training.
        losses: Held-out loss of each.
        kept_step: Step whose weights were restored and saved; None for the last step.
    """
    points = [(s, x) for s, x in zip(steps, losses, strict=True) if math.isfinite(x)]
    if len(points) < 3:
        return None
    best_step, best = min(points, key=lambda point: point[1])
    last_step, last = points[-1]
    if best <= 0 or last < best * (1 + _RISE):
        return None
    rose = f"The held-out loss rose from {best:.4g} at step {best_step:,} to {last:.4g} at step "
    rose += f"{last_step:,}: "
    if best_step == 0:
        return (
            f"{rose}training made the model worse on held-out rows from the start. Lower "
            "train.learning_rate, and check that held-out and training rows are of one kind."
        )
    if kept_step is not None and kept_step < last_step:
        return f"{rose}overfitting. The weights of step {kept_step:,} were kept."
    return (
        f"{rose}overfitting. The weights of the last step were saved; set train.keep: best, take "
        "fewer steps, or add rows."
    )
