"""Generation metrics: hand-computed values, their registry, and their place in a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.run_commands import changed, read_jsonl, train_here
from training.config.load import parse_job
from training.config.runtime import GenerationMetricName
from training.errors import JobError
from training.evaluation.generation_metrics import base, exact_match, token_f1
from training.report.run_data import read_run_data
from training.report.summary import comparisons

FOLDER = Path(base.__file__).parent


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0, 1.0),
        # Words in common: paris, france. Precision 2/3, recall 2/2: F1 = 0.8.
        ("Paris, in France", "the Paris (France)", 0.0, 0.8),
        # "b" counts twice in the answer and once in the reference: 2 * 1 / (2 + 1).
        ("b b", "b", 0.0, 2 / 3),
        ("red", "blue", 0.0, 0.0),
        ("the", "", 1.0, 1.0),
        ("", "blue", 0.0, 0.0),
    ],
)
def test_scores_are_those_of_squad(answer: str, reference: str, exact: float, f1: float) -> None:
    assert exact_match.score(answer, reference) == exact
    assert token_f1.score(answer, reference) == pytest.approx(f1)


def test_every_metric_is_one_file_and_one_name() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "base", "normalize"}
    assert files == set(get_args(GenerationMetricName))


def test_the_mean_covers_samples_with_a_reference_only() -> None:
    names: tuple[GenerationMetricName, ...] = ("exact_match", "token_f1")
    scores = base.mean_scores(names, ["a cat", "two dogs", "x"], ["cat", "dogs", None])
    assert scores == {"exact_match": 0.5, "token_f1": pytest.approx((1 + 2 / 3) / 2)}
    assert base.mean_scores(names, ["x"], [None]) == {}


def test_metrics_without_a_reference_are_refused(document: dict[str, Any]) -> None:
    evaluate = {"samples": ["What?"], "generation_metrics": ["exact_match"]}
    with pytest.raises(JobError, match=r"evaluate.*needs a reference answer"):
        parse_job(changed(document, evaluate=evaluate), "test")
    with pytest.raises(JobError, match="generation_metrics"):
        parse_job(changed(document, evaluate={"generation_metrics": ["rouge"]}), "test")


def test_a_run_logs_and_reports_the_scores(document: dict[str, Any], tmp_path: Path) -> None:
    evaluate = {
        "every": "2 steps",
        "samples": ["What?", {"prompt": "Which?", "reference": "this one"}],
        "max_new_tokens": 4,
        "generation_metrics": ["exact_match", "token_f1"],
    }
    data = {"validation": {"split": "20%"}}
    run = train_here(changed(document, data=data, evaluate=evaluate), tmp_path / "run")
    evaluation = json.loads((run.path / "evaluation.json").read_text())
    for when in ("before", "after"):
        assert set(evaluation[when]["generation"]) == {"exact_match", "token_f1"}
        assert evaluation[when]["samples"][1]["reference"] == "this one"
    evaluated = [row for row in read_jsonl(run.path / "metrics.jsonl") if "eval_token_f1" in row]
    assert all(0 <= row["eval_exact_match"] <= 1 for row in evaluated)
    assert evaluated
    names = [row.name for row in comparisons(read_run_data(run.path))]
    assert "Sample answers: exact match" in names
