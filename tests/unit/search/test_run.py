"""The loop of a search, with trials that end as a test says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from search import run
from search.job_file import load_search_job
from search.local_trial import LocalRunner
from search.run_metrics import metrics_outcome
from search.trial_runner import PricedJob, Trial
from search.trials import TrialOutcome
from tests.run_commands import ROOT, changed
from training.errors import RunError

ENDS: list[TrialOutcome | None] = []
"""Results of the trials that are started, in order; of the last one, from then on."""


class PlannedTrial:
    """Trial that has ended when it is started."""

    stopped_early = False
    is_over = True
    seconds = 1.0
    losses: Mapping[int, float] = {}

    def __init__(self) -> None:
        self._outcome = ENDS.pop(0) if len(ENDS) > 1 else ENDS[0]

    def stop(self, *, early: bool = False) -> None:
        pass

    def wait(self) -> None:
        pass

    def outcome(self, metric: str) -> TrialOutcome | None:
        return self._outcome

    def cost_usd(self, before: float) -> float | None:
        return None


class PlannedRunner(LocalRunner):
    """Runner of such trials."""

    def start(self, folder: Path, job: PricedJob) -> Trial:
        return PlannedTrial()


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[run.Search, list[str]]:
    document = yaml.safe_load((ROOT / "jobs/search.yaml").read_text())
    settings = {
        "trials": 6,
        "parallel": 1,
        "algorithm": "random",
        "early_stopping": "median",
        "objective": {"gates": [{"metric": "validation.loss", "min": 1.0}]},
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(changed(document, search=settings)))
    monkeypatch.setattr(run, "_POLL_S", 0)
    said: list[str] = []
    loaded = load_search_job(path)
    runner = PlannedRunner(loaded.settings, str(path))
    return run.Search(loaded, tmp_path, said.append, runner), said


def complete(loss: float) -> TrialOutcome:
    return TrialOutcome(TrialState.COMPLETE, loss, {"validation.loss": loss})


def test_the_best_trial_is_the_best_within_the_gates(search: tuple[run.Search, list[str]]) -> None:
    loop, said = search
    ENDS[:] = [complete(loss) for loss in (3.0, 0.5, 2.0, 2.5, 2.0, 4.0)]
    loop.run()
    assert loop.best is not None and loop.best.number == 2
    assert "(the job as written)" in said[0] and said[2].endswith("best so far")


def test_a_trial_that_is_stopped_from_outside_is_resumed_a_few_times(
    search: tuple[run.Search, list[str]],
) -> None:
    loop, said = search
    ENDS[:] = [None, None, complete(2.0), *[None] * 4, complete(3.0)]
    loop.run()
    states = [trial.state for trial in loop.journal.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, *[TrialState.COMPLETE] * 4]
    assert sum("is resumed" in line for line in said) == 5
    assert "stopped from outside 4 times" in loop.journal.trials[1].user_attrs["message"]


def test_a_search_whose_first_trials_all_fail_ends_with_the_reason(
    search: tuple[run.Search, list[str]],
) -> None:
    loop, _ = search
    ENDS[:] = [TrialOutcome(TrialState.FAIL, message="out of memory")]
    with pytest.raises(RunError, match=r"the first 3 trials failed, .* out of memory"):
        loop.run()


def test_the_decision_to_end_a_trial_survives_a_kill(search: tuple[run.Search, list[str]]) -> None:
    loop, _ = search
    for loss in (2.0, 2.1, 2.2, 2.3):
        trial = loop.journal.start(loop.search.baseline or {})
        loop.journal.report(trial, 1, loss)
        loop.journal.finish(trial, complete(loss))
    hopeless = loop.journal.start(loop.search.baseline or {})
    loop.journal.report(hopeless, 1, 9.0)  # and then the search was killed
    ENDS[:] = [complete(3.0)]
    loop.run()
    ended = loop.journal.trials[4]
    assert (ended.state, ended.value) == (TrialState.PRUNED, 9.0)


def test_an_objective_that_nobody_measures_ends_the_search_at_the_first_trial(
    search: tuple[run.Search, list[str]],
) -> None:
    loop, _ = search
    ENDS[:] = [metrics_outcome({"validation.accuracy": 0.5}, "validation.loss", 1.0)]
    with pytest.raises(RunError, match=r"the first trial failed, .* measured validation\.accuracy"):
        loop.run()
    assert len(loop.journal.trials) == 1
