"""MLflow run of a search: one across its starts, parent of the runs of its trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.job_file import load_search_job
from search.mlflow_parent import MlflowParent
from search.seeds import SeedResult
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
