"""Numbers that a finished run has measured, and the result of a trial that they make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from search.trials import TrialOutcome
from training.run_folder import RunFolder

NOT_MEASURED = "was not measured"


def metrics_outcome(metrics: Mapping[str, float], metric: str, seconds: float) -> TrialOutcome:
    """Return the result of a trial that has finished: a failure if it lacks the objective.

    Args:
        metrics: What it measured, by path.
        metric: Path of the objective.
        seconds: Its duration.
    """
    if metric not in metrics:
        known = ", ".join(sorted(metrics)) or "nothing"
        message = f"the objective {metric} {NOT_MEASURED}; the trial measured {known}"
        return TrialOutcome(TrialState.FAIL, message=message, seconds=seconds)
    return TrialOutcome(TrialState.COMPLETE, metrics[metric], metrics, seconds=seconds)


def read_metrics(folder: Path) -> dict[str, float]:
    """Return the numbers that a finished run measured at its end, by dotted path."""
    path = last_stage(folder) / "evaluation.json"
    if not path.exists():
        return {}
    return dict(_numbers(json.loads(path.read_text()).get("after", {})))


def last_stage(folder: Path) -> Path:
    """Return the folder of the last stage of a run; the run folder if it has no stages."""
    if not (folder / "job.yaml").exists():
        return folder
    stages = getattr(RunFolder(folder).job, "stages", None)
    if stages is None:
        return folder
    return folder / "stages" / f"{len(stages):02d}-{stages[-1].name}"


def _numbers(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in document.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((f"{prefix}{key}", float(value)))
    return found
