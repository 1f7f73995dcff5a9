"""MLflow run of a search: one across its starts, parent of the runs of its trials."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import TrialState

from search.job_file import load_search_job
from search.mlflow_children import MlflowChildren
from search.mlflow_parent import MlflowParent
from search.seeds import SeedResult
from search.trials import TrialJournal, TrialOutcome
from tests.run_commands import ROOT
from training.report.run_data import RunData
from training.tracking.mlflow_sync import _tags


def test_a_search_is_one_run_across_its_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    search = load_search_job(ROOT / "jobs/search.yaml")
    MlflowParent(search, tmp_path)
    parent = MlflowParent(search, tmp_path)
    result = tmp_path / "result.json"
    result.write_text("{}")
    parent.end(2.5, SeedResult((2.5, 2.7)), [result])

    client = MlflowClient(parent.environment["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(parent.environment["MLFLOW_EXPERIMENT_NAME"])
    assert experiment is not None and experiment.name == "search"
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"best": 2.5, "best_other_seeds": 2.7}
    assert run.data.params["algorithm"] == "tpe"
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["result.json"]

    for name, value in parent.environment.items():
        monkeypatch.setenv(name, value)
    assert (
        _tags(RunData("search", "1", "finished"), tmp_path)["mlflow.parentRunId"] == run.info.run_id
    )


def test_trials_elsewhere_are_children_from_their_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    search = load_search_job(ROOT / "jobs/search.yaml")
    parent = MlflowParent(search, tmp_path)
    client = MlflowClient(parent.environment["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("search").experiment_id
    query = "attributes.run_name LIKE 'trial %'"
    journal = TrialJournal(tmp_path, "search", search.settings)
    children = parent.children

    trial = journal.start(search.baseline or {})
    children.update(journal.trials)
    (run,) = client.search_runs([experiment], query)
    assert run.info.status == "RUNNING"
    assert float(run.data.params["train.learning_rate"]) == 1.0e-3

    journal.report(trial, 1, 3.0)
    journal.report(trial, 2, 2.5)
    children.update(journal.trials)
    losses = client.get_metric_history(run.info.run_id, "held_out_loss")
    assert [(loss.step, loss.value) for loss in losses] == [(1, 3.0), (2, 2.5)]

    outcome = TrialOutcome(TrialState.COMPLETE, 2.5, {"validation.loss": 2.5})
    journal.finish(trial, outcome)
    parent.children.update(journal.trials)  # of a search that was killed and started again
    (run,) = client.search_runs([experiment], query)
    assert (run.info.status, run.data.metrics["validation.loss"]) == ("FINISHED", 2.5)
    assert run.data.tags["search.state"] == "complete"


def test_a_server_that_does_not_answer_ends_no_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Silent:
        def search_runs(self, *_: object, **__: object) -> None:
            raise ConnectionError("no route to host")

    search = load_search_job(ROOT / "jobs/search.yaml")
    journal = TrialJournal(tmp_path, "search", search.settings)
    journal.start(search.baseline or {})
    children = MlflowChildren(Silent(), "0", "run")
    children.update(journal.trials)
    children.update(journal.trials)
    assert capsys.readouterr().err.count("no route to host") == 1
