"""Runs that train one point of the space with further seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from optuna.trial import TrialState

from search.budget import SearchBudget
from search.config import Value
from search.job_file import SearchJob
from search.run import trial_name
from search.run_metrics import read_metrics
from search.seeds import seed_values
from search.stop_signals import StopSignals
from search.trial_runner import Trial, TrialRunner
from training.errors import RunError
from training.run_folder import RunFolder

_POLL_S = 0.5


class SeedRuns:
    """Runs with further seeds.

    Args:
        search: The search, whose settings have the number of seeds.
        folder: Folder of the search.
        runner: Place where they run.
        ledger: Costs of the search.
    """

    def __init__(self, search: SearchJob, folder: Path, runner: TrialRunner, ledger: SearchBudget):
        self._search, self._folder = search, folder
        self._runner, self._ledger = runner, ledger

    def train(self, name: str, values: Mapping[str, Value]) -> list[float]:
        """Return the objective of a point with further seeds, training what is not trained yet.

        Args:
            name: Name of the point, for its folder.
            values: The point.

        Raises:
            Interrupted: A signal stopped a run.
            RunError: A run failed, or `max_cost` does not allow for it.
        """
        metric = self._search.settings.objective.metric
        found = []
        with StopSignals() as signals:
            for offset in range(1, self._search.settings.seeds + 1):
                folder = self._folder / "seeds" / name / f"seed-{offset}"
                if RunFolder(folder).state != "finished":
                    job = {**values, **seed_values(self._search.job, offset)}
                    self._train(folder, job, metric, signals)
                found.append(read_metrics(folder)[metric])
        return found

    def _train(
        self, folder: Path, values: Mapping[str, Value], metric: str, signals: StopSignals
    ) -> None:
        name = trial_name(self._folder, folder)
        trial = self._begin(folder, values, name)
        while not trial.is_over:
            if signals.received is not None:
                trial.stop()
                trial.wait()
            time.sleep(_POLL_S)
        outcome = trial.outcome(metric)
        self._ledger.settle(name, trial.cost_usd(self._ledger.before(name)))
        signals.raise_if_received()
        if outcome is None or outcome.state != TrialState.COMPLETE:
            why = outcome.message if outcome is not None else "it was stopped from outside"
            raise RunError(f"{folder} did not finish: {why}")

    def _begin(self, folder: Path, values: Mapping[str, Value], name: str) -> Trial:
        job = self._runner.price(self._search.trial_job(values))
        if running := self._runner.attach(folder, job):
            return running
        spent = self._runner.spent_usd(folder)
        if not self._ledger.reserve(name, job.most_usd or 0.0, spent=spent):
            raise RunError(
                f"max_cost does not allow for {name}: it could cost {job.most_usd:.2f} USD, and "
                f"{self._ledger.most_usd:.2f} USD are spent. Raise search.max_cost, or set "
                "search.seeds to 0"
            )
        return self._runner.start(folder, job)
