"""A suite exported to Bedrock: requests that the service's description accepts."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from emulator.botocore_schema import validation_errors
from evaluation.command import EvaluateOptions, run_evaluation
from temper.cli import main
from tests.unit.evaluation.exports.suites import ROWS, TASKS, write_suite

GOLDEN = Path(__file__).parent / "golden/bedrock"
"""Written by `python -m tests.unit.evaluation.exports.test_bedrock`."""
ROLE = "arn:aws:iam::111122223333:role/evaluation"
AWS = ("--s3", "s3://bucket/suites/demo/", "--role", ROLE)
MODEL = ("--model", "us.amazon.nova-lite-v1:0")
# The user guide's requests of judged jobs have this task type, which botocore's list lacks
# (docs.aws.amazon.com/bedrock/latest/userguide/model-evaluation-built-in-metrics.html).
UNLISTED = "General"


def exported(suite: Path, *options: str) -> dict[str, str]:
    """Return the files of an export."""
    folder = suite.parent / "out"
    arguments = ["export-suite", str(suite), "--to", "bedrock", "--out", str(folder), *options]
    assert main(arguments) == 0
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in files}


def jobs(files: dict[str, str]) -> list[dict[str, Any]]:
    """Return the requests; each must be valid."""
    requests = [json.loads(text) for name, text in sorted(files.items()) if name.startswith("job-")]
    for request in requests:
        errors = validation_errors("bedrock", "CreateEvaluationJob", request)
        assert [error for error in errors if UNLISTED not in error] == []
    return requests


def test_requests_and_data_sets_are_the_recorded_ones(tmp_path: Path) -> None:
    files = exported(write_suite(tmp_path, "facts", "talk"), *AWS, *MODEL, "--partial")
    recorded = {
        str(path.relative_to(GOLDEN)): path.read_text("utf-8")
        for path in GOLDEN.rglob("*")
        if path.is_file()
    }
    del files["export.json"]
    assert files == recorded
    assert len(jobs(files)) == 2


def test_what_bedrock_cannot_compute_is_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(tmp_path, *TASKS)
    out = tmp_path / "out"
    code = main(["export-suite", str(suite), "--to", "bedrock", "--out", str(out), *AWS, *MODEL])
    assert code == 2
    message = capsys.readouterr().err
    assert "tasks.0.scores.1: exact_match of facts cannot be exported to Bedrock" in message
    assert "tasks.2: multiple_choice choices cannot be exported" in message
    assert "tasks.3: perplexity texts cannot be exported" in message
    assert "--partial exports the rest: facts, talk" in message
    assert not out.exists()


def test_a_job_has_at_most_a_thousand_prompts_and_five_data_sets(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "q": f"Question {number}?"} for number in range(1319)]
    suite = write_suite(tmp_path, "facts", rows=rows, scores=[{"kind": "token_f1"}])
    requests = jobs(exported(suite, *AWS, *MODEL))
    assert [len(_datasets(request)) for request in requests] == [1, 1]
    files = exported(suite, *AWS, *MODEL)
    lines = [files[f"datasets/facts-{part}.jsonl"].count("\n") for part in (1, 2)]
    assert lines == [1000, 319]
    document = suite.read_text("utf-8")
    tasks = document.partition("tasks:\n")[2]
    many = "".join(tasks.replace("name: facts", f"name: facts{n}") for n in range(7))
    suite.write_text(document.replace(tasks, many), encoding="utf-8")
    (tmp_path / "questions.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    requests = jobs(exported(suite, *AWS, *MODEL))
    assert [len(_datasets(request)) for request in requests] == [5, 2]


def _datasets(request: dict[str, Any]) -> list[Any]:
    datasets: list[Any] = request["evaluationConfig"]["automated"]["datasetMetricConfigs"]
    return datasets


def test_answers_of_an_evaluation_are_judged(
    tmp_path: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(tmp_path, "facts", scores=[{"kind": "token_f1"}])
    results = tmp_path / "results"
    run_evaluation(EvaluateOptions(tiny, suite, None, results))
    judged = [{"kind": "token_f1"}, *TASKS["talk"]["scores"]]
    suite = write_suite(tmp_path, "facts", scores=judged)
    files = exported(suite, *AWS, "--answers", str(results), "--partial")
    [request] = jobs(files)
    [source] = request["inferenceConfig"]["models"]
    identifier = source["precomputedInferenceSource"]["inferenceSourceIdentifier"]
    rows = [json.loads(line) for line in files["datasets/facts-1.jsonl"].split("\n") if line]
    items = [json.loads(line) for line in (results / "items/facts.jsonl").open(encoding="utf-8")]
    assert [row["modelResponses"] for row in rows] == [
        [{"response": item["answers"][0], "modelIdentifier": identifier}] for item in items
    ]
    said = capsys.readouterr().out
    assert "token_f1 of facts cannot be exported to Bedrock: answers that it is given" in said


def test_answers_to_other_prompts_are_refused(
    tmp_path: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(tmp_path, "facts", scores=[{"kind": "token_f1"}])
    run_evaluation(EvaluateOptions(tiny, suite, None, tmp_path / "results"))
    suite = write_suite(tmp_path, "facts", prompt="{{q}}")
    arguments = ["export-suite", str(suite), "--to", "bedrock", "--out", str(tmp_path / "out")]
    assert main([*arguments, *AWS, "--answers", str(tmp_path / "results")]) == 4
    assert "has no answer to item 1 of task facts as it is now" in capsys.readouterr().err


def test_missing_options_are_named_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(tmp_path, "facts")
    out = tmp_path / "out"
    code = main(
        ["export-suite", str(suite), "--to", "bedrock", "--out", str(out), "--s3", "bucket/x"]
    )
    assert code == 2
    message = capsys.readouterr().err
    assert "--s3: not of the form expected (got bucket/x)" in message
    assert "--role: a request to Bedrock needs it" in message
    assert "--model: a request to Bedrock needs it" in message
    assert not out.exists()


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        suite = write_suite(Path(temporary), "facts", "talk")
        for name, text in exported(suite, *AWS, *MODEL, "--partial").items():
            if name != "export.json":
                (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
                (GOLDEN / name).write_text(text, encoding="utf-8")
