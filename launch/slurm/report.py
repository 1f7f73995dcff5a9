"""Report of a cluster about a run: its queue entry, status file, last metrics and last error."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from launch.status import State, Status

_FINAL: dict[str, State] = {
    "finished": "not deployed",
    "failed": "training failed",
    "stopped": "stopped",
}
_WAITING = frozenset(("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED"))


def parse_report(lines: Iterable[str]) -> dict[str, Any]:
    """Return the report that a script printed as lines of a key and a value.

    `status` and `metrics` are JSON objects; one that cannot be read is left out.
    """
    report: dict[str, Any] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        if key in ("status", "metrics"):
            try:
                document = json.loads(value)
            except ValueError:
                continue
            if isinstance(document, dict):
                report[key] = document
        elif value:
            report[key] = value
    return report


def read_report(report: Mapping[str, Any], log: PurePosixPath) -> Status:
    """Return the status of a run from the report about it.

    Args:
        report: Parsed report.
        log: Path of the job's output, for a job that ended without a message.
    """
    recorded, metrics = report.get("status", {}), report.get("metrics", {})
    last_step, loss = _number(metrics.get("step")), _number(metrics.get("loss"))
    step = None if last_step is None or not math.isfinite(last_step) else int(last_step)
    state, reason, nodes = (*str(report.get("queue", "")).split("|"), "", "")[:3]
    if state in _WAITING:
        return Status("training", f"waiting: {reason or state.lower()}", step, loss)
    if state:
        stopping = bool(report.get("stop"))
        return Status("stopping" if stopping else "training", f"on {nodes}", step, loss)
    if not report.get("id"):
        return Status("planned", "not submitted: rerun the same command")
    if final := _FINAL.get(str(recorded.get("state", ""))):
        return Status(final, str(recorded.get("message", "")), step, loss)
    reason = report.get("error") or f"its job ended without a message; see {log}"
    return Status("training failed", reason, step, loss)


def _number(value: Any) -> float | None:
    """Return a number of a file that another person may have written; None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None
