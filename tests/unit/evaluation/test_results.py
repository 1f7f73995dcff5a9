"""Results of an evaluation are read as they were written; metrics are functions of sums."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.metric import mean_metric
from evaluation.results import (
    EvaluatedModelInfo,
    EvaluationResult,
    GateResult,
    MetricResult,
    PairedResult,
    TaskResult,
    read_results,
)


def _results() -> EvaluationResult:
    metric = MetricResult(0.5, 0.3, 0.7, 20, by_group={"en": 0.4, "de": 0.6})
    paired = PairedResult(0.1, -0.1, 0.3, 0.4, 0.8, "mcnemar", 4, 2, 14, 200)
    task = TaskResult(
        "d1", 20, {"prompt longer than the context": 1}, 2,
        {"accuracy": metric}, {"accuracy": metric}, {"accuracy": paired},
    )  # fmt: skip
    model = EvaluatedModelInfo("runs/a/latest", "abc", "transformers", {"dtype": "float32"})
    return EvaluationResult(
        "demo", "s1", model, model, {"mmlu": task}, (GateResult("g", True, "0.5"),), 1.5, "2026"
    )


def test_results_are_read_as_written(tmp_path: Path) -> None:
    results = _results()
    (tmp_path / "results.json").write_text(results.to_json(), encoding="utf-8")
    assert read_results(tmp_path) == results
    alone = dataclasses.replace(results, against=None)
    (tmp_path / "results.json").write_text(alone.to_json(), encoding="utf-8")
    assert read_results(tmp_path) == alone


def test_results_of_another_format_are_refused(tmp_path: Path) -> None:
    document = json.loads(_results().to_json()) | {"format": 99}
    (tmp_path / "results.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ValueError, match="format 1"):
        read_results(tmp_path)


def test_mean_metric_is_a_proportion_if_every_value_is_0_or_1() -> None:
    assert mean_metric("accuracy", np.array([1.0, 0.0, 1.0, 1.0])).kind == "proportion"
    metric = mean_metric("f1", np.array([0.5, 1.0]), higher_is_better=False)
    assert (metric.kind, metric.value) == ("mean", 0.75)
    assert metric.subset(np.array([1])).value == 1.0
    assert np.isnan(metric.subset(np.array([], dtype=int)).value)
