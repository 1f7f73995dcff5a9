"""Runs in MLflow of trials that do not write there themselves, children of the search's run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

_STATE_TAG = "search.state"
_LOSS = "held_out_loss"


class MlflowChildren:
    """Children of a search's run, one for each trial.

    A server that does not answer never stops the search: a message is printed once, and what was
    not logged is logged with the next change.

    Args:
        client: MLflow's client.
        experiment: Id of the experiment.
        parent: Id of the search's run.
    """

    def __init__(self, client: Any, experiment: str, parent: str):
        self._client, self._experiment, self._parent = client, experiment, parent
        self._runs: dict[str, str] | None = None
        self._logged: dict[int, int] = {}
        self._ended: set[int] = set()
        self._is_silent = False

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Log what is new of the trials: their start, held-out losses and results.

        Args:
            trials: All trials of the search.
        """
        from mlflow.exceptions import MlflowException

        try:
            for trial in trials:
                if trial.number not in self._ended:
                    self._update(trial)
        except (MlflowException, OSError) as error:
            if not self._is_silent:
                sys.stderr.write(f"MLflow does not take the trials of the search: {error}\n")
            self._is_silent = True

    def _update(self, trial: FrozenTrial) -> None:
        run = self._run_of(trial)
        logged = self._logged.get(trial.number, 0)
        for evaluation, loss in sorted(trial.intermediate_values.items()):
            if evaluation > logged:
                self._client.log_metric(run, _LOSS, loss, step=evaluation)
                self._logged[trial.number] = evaluation
        if not trial.state.is_finished():
            return
        for key, value in trial.user_attrs.get("metrics", {}).items():
            self._client.log_metric(run, key, value)
        self._client.set_tag(run, _STATE_TAG, trial.state.name.lower())
        failed = trial.state == TrialState.FAIL
        self._client.set_terminated(run, "FAILED" if failed else "FINISHED")
        self._ended.add(int(trial.number))

    def _run_of(self, trial: FrozenTrial) -> str:
        """Return the run of a trial, which is created if it does not exist."""
        runs = self._earlier()
        name = f"trial {trial.number}"
        if name not in runs:
            created = self._client.create_run(
                self._experiment, run_name=name, tags={"mlflow.parentRunId": self._parent}
            )
            runs[name] = str(created.info.run_id)
            for key, value in trial.params.items():
                self._client.log_param(runs[name], key, value)
        return runs[name]

    def _earlier(self) -> dict[str, str]:
        """Return the runs by name; those of an earlier start of the search are read first."""
        if self._runs is None:
            query = f"tags.`mlflow.parentRunId` = '{self._parent}'"
            found = self._client.search_runs([self._experiment], query, max_results=10_000)
            self._runs = {str(run.info.run_name): str(run.info.run_id) for run in found}
        return self._runs
