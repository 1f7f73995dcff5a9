"""Trials of a tuning job, as the journal of a search has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.trial import TrialState

from search.config import SearchParameter, SearchSettings, Value
from search.trials import TrialJournal, TrialOutcome
from search.tuning_service.metrics import printed_metric, printed_paths
from search.tuning_service.request import is_listed, value_text


def add_trial(
    journal: TrialJournal,
    settings: SearchSettings,
    summary: Mapping[str, Any],
    job: Mapping[str, Any],
) -> None:
    """Add a training job of a tuning job to the journal of a search.

    Args:
        journal: Journal of the search.
        settings: Its settings.
        summary: Summary of the training job, with its values.
        job: Description of the training job, with its metrics and its billed time.
    """
    tuned = summary["TunedHyperParameters"]
    values = {
        key: read_value(parameter, tuned[key], grid=settings.is_grid)
        for key, parameter in settings.space.items()
    }
    trial = journal.start(values, job=summary["TrainingJobName"])
    journal.finish(trial, _outcome(settings, summary, job))


def read_value(parameter: SearchParameter, text: str, *, grid: bool) -> Value:
    """Return a value of a key from the text that the service passed to a job.

    Args:
        parameter: Values of the key.
        text: The text.
        grid: The strategy is Grid.

    Raises:
        ValueError: The service passed a value that was not in its list.
    """
    if is_listed(parameter, grid=grid):
        for value in parameter.grid or ():
            if value_text(value) == text:
                return value
        raise ValueError(f"{text!r} is not in the space")
    assert parameter.low is not None and parameter.high is not None
    number = min(max(float(text), parameter.low), parameter.high)
    return round(number) if parameter.is_integer else number


def _outcome(
    settings: SearchSettings, summary: Mapping[str, Any], job: Mapping[str, Any]
) -> TrialOutcome:
    printed = {m["MetricName"]: float(m["Value"]) for m in job.get("FinalMetricDataList", ())}
    metrics = {
        path: printed[name]
        for path in printed_paths()
        if (name := printed_metric(path)) is not None and name in printed
    }
    seconds = float(job.get("BillableTimeInSeconds", 0))
    objective = summary.get("FinalHyperParameterTuningJobObjectiveMetric")
    value = None if objective is None else float(objective["Value"])
    status = summary["TrainingJobStatus"]
    if status == "Completed" and value is not None:
        return TrialOutcome(TrialState.COMPLETE, value, metrics, seconds=seconds)
    if status == "Stopped" and value is not None:
        return TrialOutcome(TrialState.PRUNED, value, metrics, seconds=seconds)
    reason = str(summary.get("FailureReason", "")) or (
        f"the job printed no {settings.objective.metric}"
        if status == "Completed"
        else f"the job is {status.lower()}"
    )
    return TrialOutcome(TrialState.FAIL, message=reason, seconds=seconds)
