"""Trials of a search, kept in an Optuna journal that a kill leaves readable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.config import SearchParameter, SearchSettings, Value

JOURNAL = "journal.log"


@dataclass(frozen=True)
class TrialOutcome:
    """Result of a trial.

    Attributes:
        state: `COMPLETE`, `PRUNED` (ended early by its held-out losses) or `FAIL`.
        value: Objective; None for a trial that failed.
        metrics: Metrics that were measured, by path.
        message: Reason of a failure.
        seconds: Duration of its last start.
    """

    state: TrialState
    value: float | None = None
    metrics: Mapping[str, float] | None = None
    message: str = ""
    seconds: float = 0.0


class TrialJournal:
    """Journal of a search's trials, which `optuna` and its dashboard read as well.

    Args:
        folder: Folder of the search.
        name: Name of the study.
        settings: Settings of the search.
    """

    def __init__(self, folder: Path, name: str, settings: SearchSettings):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.distributions = distributions(settings)
        self._storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
        direction = settings.objective.direction
        self.study = optuna.create_study(
            storage=self._storage, study_name=name, direction=direction, load_if_exists=True
        )

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        trials: list[FrozenTrial] = self.study.get_trials(deepcopy=False)
        return trials

    def start(self, values: Mapping[str, Value], **attributes: Any) -> FrozenTrial:
        """Add a running trial and return it."""
        self.study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=dict(values),
                distributions=self.distributions,
                user_attrs=attributes,
            )
        )
        return self.trials[-1]

    def report(self, trial: FrozenTrial, evaluation: int, loss: float) -> None:
        """Record a held-out loss during a trial.

        Args:
            trial: The trial.
            evaluation: Number of the evaluation, from 1.
            loss: The loss.
        """
        self._storage.set_trial_intermediate_value(trial._trial_id, evaluation, loss)

    def finish(self, trial: FrozenTrial, outcome: TrialOutcome) -> None:
        """Record the result of a trial."""
        facts = {
            "message": outcome.message,
            "metrics": dict(outcome.metrics or {}),
            "seconds": outcome.seconds,
        }
        for name, fact in facts.items():
            self._storage.set_trial_user_attr(trial._trial_id, name, fact)
        values = None if outcome.value is None else [outcome.value]
        self._storage.set_trial_state_values(trial._trial_id, outcome.state, values)


def distributions(settings: SearchSettings) -> dict[str, BaseDistribution]:
    """Return the space of a search as Optuna's distributions."""
    return {key: _distribution(parameter) for key, parameter in settings.space.items()}


def _distribution(parameter: SearchParameter) -> BaseDistribution:
    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    low, high, step = parameter.low, parameter.high, parameter.step
    assert low is not None and high is not None
    if parameter.is_integer:
        step = 1 if step is None else int(step)
        return IntDistribution(int(low), int(high), log=parameter.log, step=step)
    return FloatDistribution(low, high, log=parameter.log, step=step)
