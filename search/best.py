"""The best trial of a search."""

from __future__ import annotations

from collections.abc import Iterable

from optuna.trial import FrozenTrial, TrialState

from search.config import SearchSettings


def passes(settings: SearchSettings, trial: FrozenTrial) -> bool:
    """Return whether a trial is complete and within the limits of all gates."""
    metrics = trial.user_attrs.get("metrics", {})
    gates = settings.objective.gates
    return trial.state == TrialState.COMPLETE and all(
        gate.metric in metrics and gate.allows(metrics[gate.metric]) for gate in gates
    )


def best_trial(settings: SearchSettings, trials: Iterable[FrozenTrial]) -> FrozenTrial | None:
    """Return the best complete trial that passes the gates; the first of equal ones.

    Only the last generation of a population is trained to the end.

    Args:
        settings: Settings of the search.
        trials: Its trials.
    """
    first = settings.num_trials - settings.round_size if settings.algorithm == "pbt" else 0
    sign = 1 if settings.objective.direction == "minimize" else -1
    passing = [trial for trial in trials if trial.number >= first and passes(settings, trial)]
    return min(passing, key=lambda trial: (sign * _value(trial), trial.number), default=None)


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return float(trial.value)
