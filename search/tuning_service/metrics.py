"""Names under which SageMaker knows the metrics that a job prints."""

from __future__ import annotations

from training.tracking.progress_lines import EVALUATION_METRICS, METRIC_PATTERNS

_HELD_OUT = "validation."


def printed_metric(path: str) -> str | None:
    """Return the name of a metric in the log of a job; None if the job does not print it.

    Args:
        path: Path in `evaluation.json`, such as `validation.loss`.
    """
    name = f"eval_{path.removeprefix(_HELD_OUT)}"
    return name if path.startswith(_HELD_OUT) and name in METRIC_PATTERNS else None


def printed_paths() -> tuple[str, ...]:
    """Return the paths of the held-out metrics that a job prints."""
    return tuple(_HELD_OUT + name for name in EVALUATION_METRICS)
