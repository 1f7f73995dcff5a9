"""`temper evaluate`, from a suite file to results that are read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from evaluation.calibration import calibration_metrics
from evaluation.results import EvaluationResult, read_results
from temper.cli import main
from tests.factories import make_tiny_model
from tests.unit.evaluation.test_suite_file import CHOICE, ROWS

GENERATION = {
    "name": "answers", "kind": "generation", "data": "quiz.jsonl", "prompt": "{{q}}",
    "target": "{{options[0]}}", "max_new_tokens": 6,
    "scores": [{"kind": "token_f1"}, {"kind": "bleu"}],
}  # fmt: skip
TEXT = {"name": "text", "kind": "perplexity", "data": "quiz.jsonl", "text": "{{q}} {{topic}}"}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    rows = [*ROWS, {**ROWS[0], "q": "word " * 400}]
    (tmp_path / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "suite.yaml"
    document = {"suite": "demo", "tasks": [{**CHOICE, "group": "topic"}, GENERATION, TEXT]}
    path.write_text(yaml.safe_dump(document))
    return path


def evaluated(suite: Path, model: str, *options: str) -> EvaluationResult:
    out = suite.parent / "out"
    assert main(["evaluate", model, str(suite), "--out", str(out), *options]) == 0
    return read_results(out)


def test_a_model_compared_with_itself_does_not_differ(
    suite: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    results = evaluated(suite, tiny, "--against", tiny)
    assert set(results.tasks) == {"quiz", "answers", "text"}
    assert results.model == results.against
    assert results.model.digest is not None
    assert results.model.settings["dtype"] == "float32"
    for task in results.tasks.values():
        assert task.comparison
        assert task.metrics == task.against
        for pair in task.comparison.values():
            assert (pair.difference, pair.wins, pair.losses, pair.p_holm) == (0, 0, 0, 1)
    assert "no difference shown" in capsys.readouterr().out


def test_items_that_were_not_scored_are_counted_and_written(
    suite: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    results = evaluated(suite, tiny)
    quiz = results.tasks["quiz"]
    assert quiz.skipped == {"longer than the context of 256 tokens": 1}
    assert quiz.metrics["accuracy"].items == 3
    assert set(quiz.metrics["accuracy"].by_group) == {"sums", "colors"}
    assert results.against is None
    lines = (suite.parent / "out/items/quiz.jsonl").read_text().splitlines()
    items = [json.loads(line) for line in lines]
    assert [item["skipped"] is None for item in items] == [True, True, True, False]
    assert len(items[0]["detail"]["log_likelihoods"]) == 2
    assert "not scored: 1 longer than the context" in capsys.readouterr().out


def test_two_models_are_paired_item_by_item(suite: Path, tiny: str, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", num_hidden_layers=1)
    results = evaluated(suite, tiny, "--against", str(other))
    pair = results.tasks["text"].comparison["bits_per_byte"]
    values = [
        [json.loads(line)["scores"]["bits_per_byte"] for line in path.read_text().splitlines()]
        for path in (tmp_path / "out/items/text.jsonl", tmp_path / "out/against/items/text.jsonl")
    ]
    wins = sum(one < another for one, another in zip(*values, strict=True))
    assert (pair.wins, pair.losses) == (wins, 4 - wins)
    metrics = results.tasks["text"]
    expected = metrics.metrics["bits_per_byte"].value - metrics.against["bits_per_byte"].value
    assert pair.difference == pytest.approx(expected)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("nowhere/at/all", [], "nowhere/at/all"),
        (None, ["--against", "nowhere/at/all"], "nowhere/at/all"),
    ],
)
def test_a_model_that_does_not_exist_is_named(
    suite: Path, tiny: str, capsys: pytest.CaptureFixture[str], model: Any, options: list[str],
    message: str,
) -> None:  # fmt: skip
    assert main(["evaluate", model or tiny, str(suite), *options]) != 0
    assert message in capsys.readouterr().err


def test_calibration_of_known_probabilities() -> None:
    log_likelihoods = [np.log([0.9, 0.1]), np.log([0.9, 0.1]), None]
    brier, error = calibration_metrics(log_likelihoods, [0, 1, 0])
    assert brier.value == pytest.approx((0.02 + 1.62) / 2)
    assert error.value == pytest.approx(0.4)


def test_a_gate_that_is_not_passed_ends_with_exit_code_4(
    suite: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = yaml.safe_load(suite.read_text())
    gates = [
        {"metric": "quiz.accuracy", "at_least": 1.1},
        {"metric": "text.bits_per_byte", "at_most": 99},
    ]
    suite.write_text(yaml.safe_dump({**document, "gates": gates}))
    assert main(["evaluate", tiny, str(suite), "--out", str(suite.parent / "out")]) == 4
    out, err = capsys.readouterr()
    assert "gate NOT PASSED: quiz.accuracy at least 1.1" in out
    assert "1 of 2 gates not passed" in err
    results = read_results(suite.parent / "out")
    assert [gate.passed for gate in results.gates] == [False, True]
    assert not results.passed


def test_gates_that_cannot_be_decided_are_refused_before_anything_runs(
    suite: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = yaml.safe_load(suite.read_text())
    gates = [{"metric": "quiz.f1", "at_least": 1}, {"metric": "answers.bleu", "max_drop": 0}]
    suite.write_text(yaml.safe_dump({**document, "gates": gates}))
    assert main(["evaluate", tiny, str(suite)]) == 2
    err = capsys.readouterr().err
    assert "the task has no such metric (got quiz.f1). Metrics of quiz: accuracy," in err
    assert "a drop is measured against another model" in err


def test_nothing_of_an_earlier_evaluation_is_left(suite: Path, tiny: str) -> None:
    evaluated(suite, tiny, "--against", tiny)
    document = yaml.safe_load(suite.read_text())
    suite.write_text(yaml.safe_dump({**document, "tasks": [TEXT]}))
    evaluated(suite, tiny)
    out = suite.parent / "out"
    assert [path.name for path in (out / "items").iterdir()] == ["text.jsonl"]
    assert not (out / "against").exists()


def test_rows_of_all_tasks_that_cannot_be_used_are_listed(
    suite: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = yaml.safe_load(suite.read_text())
    empty = {**TEXT, "name": "empty", "text": "{{q[:0]}}"}
    unknown = {**GENERATION, "prompt": "{{question}}"}
    suite.write_text(yaml.safe_dump({**document, "tasks": [unknown, empty]}))
    assert main(["evaluate", tiny, str(suite)]) != 0
    err = capsys.readouterr().err
    assert "task answers: 4 of 4 rows" in err
    assert "task empty: 4 of 4 rows" in err
    assert not (suite.parent / "out").exists()
