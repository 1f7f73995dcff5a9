"""Runs that train one point of the space with further seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from optuna.trial import TrialState

from search.config import Value
from search.job_file import SearchJob
from search.local_trial import LocalTrial, read_metrics
from search.seeds import seed_values
from search.stop_signals import StopSignals
from training.errors import RunError
from training.run_folder import RunFolder

_POLL_S = 0.5


def train_seeds(
    search: SearchJob,
    folder: Path,
    values: Mapping[str, Value],
    environment: Mapping[str, str] | None = None,
) -> list[float]:
    """Return the objective of a point with further seeds, training what is not trained yet.

    Args:
        search: The search, whose settings have the number of seeds.
        folder: Folder of these runs.
        values: The point.
        environment: Further environment variables of the runs.

    Raises:
        Interrupted: A signal stopped a run.
        RunError: A run failed.
    """
    metric = search.settings.objective.metric
    found = []
    with StopSignals() as signals:
        for offset in range(1, search.settings.seeds + 1):
            run = folder / f"seed-{offset}"
            if RunFolder(run).state != "finished":
                job = search.trial_job({**values, **seed_values(search.job, offset)})
                _train(LocalTrial(run, job, environment), metric, signals)
            found.append(read_metrics(run)[metric])
    return found


def _train(trial: LocalTrial, metric: str, signals: StopSignals) -> None:
    while not trial.is_over:
        if signals.received is not None:
            trial.stop()
            trial.wait()
        time.sleep(_POLL_S)
    signals.raise_if_received()
    outcome = trial.outcome(metric)
    if outcome is None or outcome.state != TrialState.COMPLETE:
        why = outcome.message if outcome is not None else "it was stopped from outside"
        raise RunError(f"{trial.folder} did not finish: {why}")
