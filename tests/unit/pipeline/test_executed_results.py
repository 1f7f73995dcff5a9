"""Results of an execution in AWS in place of those of steps here."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pipeline.executed_results as executed
from launch.errors import LaunchError
from pipeline.commands import CommandRunner
from pipeline.config import PipelineSpec
from pipeline.context import PipelineContext
from pipeline.executed_model import ExecutedModel, find_executed_model
from pipeline.load import LoadedPipeline
from pipeline.run import RunOptions, run_pipeline
from pipeline.state import PipelineFolder
from tests.unit.pipeline.conftest import StepRecord
from tests.unit.registry.runs import evaluated_run
from training.models.weights_digest import weights_digest

PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/temper-dev-models/1"
MODEL = ExecutedModel(PACKAGE, "support", "production", {"Environment": {"TEMPER_RUN": "a/b"}}, ())
SUITE = "suite: demo\ntasks: [{name: qa, kind: perplexity, data: rows.jsonl, text: text}]\n"
STEPS: dict[str, Any] = {
    "prepare": {"kind": "prepare", "job": "a"},
    "train": {"kind": "train", "job": "b", "data": {"data.train": "prepare"}},
    "evaluate": {"kind": "evaluate", "model": "train", "suite": "suite.yaml"},
    "better": {"kind": "gate", "evaluation": "evaluate", "better": ["qa.score"]},
    "register": {"kind": "register", "model": "train", "gate": "better"},
}


def context(folder: Path, **steps: Any) -> PipelineContext:
    (folder / "rows.jsonl").write_text('{"text": "a"}\n')
    (folder / "suite.yaml").write_text(SUITE)
    spec = PipelineSpec.model_validate({"name": "support", "steps": {**STEPS, **steps}})
    loaded = LoadedPipeline(folder / "p.yaml", spec, tuple(spec.steps))
    home = PipelineFolder(folder / "p")
    home.path.mkdir(exist_ok=True)
    runner = CommandRunner(lambda line: None, {})
    return PipelineContext(loaded, home, folder / "registry", folder / "runs", "dev", runner)


def run_against(folder: Path, digest: str | None) -> Path:
    """Return a run whose evaluation compares with weights of a digest; None: with nothing."""
    run = evaluated_run(folder)
    file = run / "evaluation" / "demo" / "results.json"
    document = json.loads(file.read_text())
    if digest is None:
        document["against"] = None
    else:
        document["against"]["digest"] = digest
    file.write_text(json.dumps(document))
    return run


def champion(monkeypatch: pytest.MonkeyPatch, digest: str | None) -> None:
    weights = SimpleNamespace(weights={"safetensors": digest})
    record = None if digest is None else SimpleNamespace(id="support@1.0.0", provenance=weights)
    monkeypatch.setattr(executed, "find_champion", lambda store, name: record)


@pytest.mark.parametrize(
    ("compared", "current", "reused"),
    [("d1", "d1", True), (None, None, True), ("d1", "d2", False), (None, "d1", False),
     ("d1", None, False)],
)  # fmt: skip
def test_an_evaluation_counts_only_against_the_version_in_production(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compared: str | None,
    current: str | None,
    reused: bool,
) -> None:
    run = run_against(tmp_path, compared)
    champion(monkeypatch, current)
    results = executed.executed_results(MODEL, run, context(tmp_path))
    assert set(results) == {"prepare", "train"} | ({"evaluate"} if reused else set())
    assert results["train"].facts == {"folder": str(run), "run": "a/b"}
    assert results["train"].digest == weights_digest(run / "model")


def test_an_evaluation_that_the_execution_lacks_is_run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_against(tmp_path, None)
    (run / "evaluation" / "demo" / "results.json").unlink()
    champion(monkeypatch, None)
    results = executed.executed_results(MODEL, run, context(tmp_path))
    assert set(results) == {"prepare", "train"}


def test_only_the_steps_after_the_evaluation_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recorded: StepRecord,
) -> None:
    champion(monkeypatch, None)
    place = context(tmp_path)
    place.results |= executed.executed_results(MODEL, run_against(tmp_path, None), place)
    assert run_pipeline(place, RunOptions()).outcome == "promoted"
    assert recorded.ran == ["gate", "register"]
    again = context(tmp_path)
    again.results |= executed.executed_results(MODEL, tmp_path / "runs/support/a", again)
    run = run_pipeline(again, RunOptions())
    assert run.outcome == "unchanged" and not run.trained


def test_another_pipeline_is_refused(tmp_path: Path) -> None:
    other = ExecutedModel(PACKAGE, "docs", "production", MODEL.training, ())
    with pytest.raises(LaunchError, match="is of docs, and this is support"):
        executed.executed_results(other, tmp_path, context(tmp_path))


def test_a_package_is_refused_if_other_steps_train_another_model(tmp_path: Path) -> None:
    more = {
        "second": {"kind": "train", "job": "b"},
        "judged": {"kind": "evaluate", "model": "second", "suite": "suite.yaml"},
    }
    with pytest.raises(LaunchError, match="the steps use those of second, train"):
        executed.executed_results(MODEL, tmp_path, context(tmp_path, **more))


class Packages:
    """Client that describes packages, and lists no steps."""

    def __init__(self, **properties: str):
        self.properties = properties

    def describe_model_package(self, **request: str) -> dict[str, Any]:
        source = {"S3DataSource": {"S3Uri": "s3://models/a/"}}
        return {
            "CustomerMetadataProperties": self.properties,
            "InferenceSpecification": {"Containers": [{"ModelDataSource": source}]},
        }

    def get_paginator(self, name: str) -> Any:
        return SimpleNamespace(paginate=lambda **request: [{"PipelineExecutionSteps": []}])


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"temper-name": "support"}, "was not registered by an execution of a pipeline"),
        ({"temper-pipeline": "support", "temper-pipeline-execution": "e1"},
         "no step of .*:pipeline/temper-dev-support/execution/e1 has trained s3://models/a/"),
    ],
)  # fmt: skip
def test_a_package_without_a_training_is_refused(properties: dict[str, str], message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        find_executed_model(Packages(**properties), PACKAGE, "temper-dev")
