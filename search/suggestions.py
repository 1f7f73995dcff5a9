"""Suggestions of an algorithm that depend on nothing but the seed and the earlier trials.

Trials are suggested in rounds of `parallel`. A suggestion sees the results of earlier rounds, and
of its own round only what was suggested, so that it does not depend on which trial ends first. A
search that was killed therefore resumes with the trials that it would have had.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.config import SearchSettings, Value
from search.trials import distributions

_STARTUP_TRIALS = 6
"""Random trials before an algorithm learns; not a share of `trials`, which may be raised later."""


def suggest(settings: SearchSettings, trials: Sequence[FrozenTrial]) -> dict[str, Value]:
    """Return the values of the next trial.

    Args:
        settings: Settings of the search.
        trials: All trials so far, by number.
    """
    number = len(trials)
    if settings.algorithm == "grid":
        return _grid(settings)[number]
    study = _study(settings, _seen(settings, trials, number), number)
    return dict(study.ask(distributions(settings)).params)


def should_stop(
    settings: SearchSettings, trials: Sequence[FrozenTrial], number: int, losses: dict[int, float]
) -> bool:
    """Return whether a trial in progress is to be ended by its held-out losses.

    Args:
        settings: Settings of the search.
        trials: All trials, by number.
        number: Number of the trial.
        losses: Its losses, by number of the evaluation from 1.
    """
    if settings.early_stopping == "none":
        return False
    study = _study(settings, [], number)
    first = number - number % settings.round_size
    for earlier in trials[:first]:
        _replay(study, earlier)
    for peer in trials[first:number]:
        _ask(study, peer)  # Hyperband assigns brackets by the number of a trial
    trial = _ask(study, trials[number])
    stops = False
    for evaluation, loss in sorted(losses.items()):
        trial.report(loss, evaluation)
        stops = trial.should_prune()
    return stops


def _replay(study: optuna.Study, earlier: FrozenTrial) -> None:
    """Repeat a trial in a study, because rules note in it which of their rungs it reached."""
    trial = _ask(study, earlier)
    for evaluation, loss in sorted(earlier.intermediate_values.items()):
        trial.report(loss, evaluation)
        trial.should_prune()
    values = earlier.value if earlier.state == TrialState.COMPLETE else None
    study.tell(trial, values, state=earlier.state)


def _ask(study: optuna.Study, like: FrozenTrial) -> optuna.Trial:
    study.enqueue_trial(like.params)
    return study.ask(like.distributions)


def _seen(
    settings: SearchSettings, trials: Sequence[FrozenTrial], number: int
) -> list[FrozenTrial]:
    first = number - number % settings.round_size
    current = [
        create_trial(
            state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions
        )
        for trial in trials[first:number]
    ]
    return [*trials[:first], *current]


def _study(settings: SearchSettings, trials: Sequence[FrozenTrial], number: int) -> optuna.Study:
    """Return a study in memory that contains `trials` and suggests trial `number`."""
    study = optuna.create_study(
        study_name="search",
        direction=settings.objective.direction,
        sampler=_sampler(settings, number),
        pruner=_pruner(settings),
    )
    study.add_trials(trials)
    return study


def _sampler(settings: SearchSettings, number: int) -> BaseSampler:
    seed = int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0])
    if settings.algorithm == "tpe":
        return TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS)
    if settings.algorithm == "gp":
        return GPSampler(seed=seed, n_startup_trials=_STARTUP_TRIALS)
    return RandomSampler(seed=seed)


def _pruner(settings: SearchSettings) -> BasePruner:
    if settings.early_stopping == "median":
        return MedianPruner(n_startup_trials=4)
    if settings.early_stopping == "asha":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    if settings.early_stopping == "hyperband":
        return HyperbandPruner(min_resource=1, reduction_factor=3)
    return NopPruner()


def _grid(settings: SearchSettings) -> list[dict[str, Value]]:
    keys = list(settings.space)
    values = [settings.space[key].grid or () for key in keys]
    points = [dict(zip(keys, point, strict=True)) for point in itertools.product(*values)]
    random.Random(settings.seed).shuffle(points)
    return points
