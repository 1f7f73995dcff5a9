"""A suite exported to SageMaker: a pipeline of valid training jobs, and a scorer that scores."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from emulator.botocore_schema import validation_errors
from temper.cli import main
from tests.unit.evaluation.exports.suites import write_suite

GOLDEN = Path(__file__).parent / "golden/sagemaker"
"""Written by `python -m tests.unit.evaluation.exports.test_sagemaker`."""
ACCOUNT = "arn:aws:sagemaker:us-east-1:111122223333"
AWS = (
    *("--s3", "s3://bucket/suites/demo", "--role", "arn:aws:iam::111122223333:role/evaluation"),
    *("--base", "arn:aws:sagemaker:us-east-1:aws:hub-content/SageMakerPublicHub/Model/"
      "huggingface-llm-qwen3-4b/1.0.0"),
)  # fmt: skip
TUNED = (
    *("--model", f"{ACCOUNT}:model-package/support/3"),
    *("--evaluator", f"{ACCOUNT}:hub-content/registry/JsonDoc/demo-evaluation/1.0.0"),
    *("--mlflow", f"{ACCOUNT}:mlflow-app/app-ABC", "--accept-eula"),
)


def exported(suite: Path, *options: str) -> dict[str, str]:
    """Return the files of an export."""
    folder = suite.parent / "out"
    arguments = ["export-suite", str(suite), "--to", "sagemaker", "--out", str(folder), *options]
    assert main(arguments) == 0
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in files}


def recorded_files(files: dict[str, str]) -> dict[str, str]:
    """Return the files that are compared with the recorded ones."""
    return {k: v for k, v in files.items() if k not in ("export.json", "lambda_function.py")}


def test_pipeline_and_data_sets_are_the_recorded_ones(tmp_path: Path) -> None:
    files = exported(write_suite(tmp_path, "facts", "talk"), *AWS, *TUNED)
    recorded = {
        str(path.relative_to(GOLDEN)): path.read_text("utf-8")
        for path in GOLDEN.rglob("*")
        if path.is_file()
    }
    assert recorded_files(files) == recorded


def test_requests_are_valid(tmp_path: Path) -> None:
    files = exported(write_suite(tmp_path, "facts", "talk"), *AWS, *TUNED)
    request = json.loads(files["create-pipeline.json"])
    assert validation_errors("sagemaker", "CreatePipeline", request) == []
    steps = json.loads(request["PipelineDefinition"])["Steps"]
    names = [step["Name"] for step in steps]
    assert len(set(names)) == len(names) == 6
    for step in steps:
        # A pipeline names a training job that its step does not, and fills in other steps' values.
        job = {"TrainingJobName": step["Name"].replace("_", "-"), **plain(step["Arguments"])}
        assert validation_errors("sagemaker", "CreateTrainingJob", job) == []
        for name in step.get("DependsOn", ()):
            assert names.index(name) < names.index(step["Name"])
    packages = [step["Arguments"].get("ModelPackageConfig") for step in steps]
    assert packages[:3] == [None] * 3
    assert (
        packages[3:]
        == [
            {
                "ModelPackageGroupArn": f"{ACCOUNT}:model-package-group/support",
                "SourceModelPackageArn": f"{ACCOUNT}:model-package/support/3",
            }
        ]
        * 3
    )


def plain(value: Any) -> Any:
    """Return arguments with a text in place of each function of pipelines."""
    if isinstance(value, dict):
        return (
            "text"
            if {"Std:Join", "Get"} & value.keys()
            else {k: plain(v) for k, v in value.items()}
        )
    return [plain(inner) for inner in value] if isinstance(value, list) else value


# The event of an open-weights model, as the documentation of AWS's agent toolkit has it
# (github.com/aws/agent-toolkit-for-aws, references/model-evaluation/custom-lambda-scorer.md).
def event(row: dict[str, Any], answer: str) -> list[dict[str, Any]]:
    return [
        {
            "id": "hash", "model_response": answer, "query": row["query"],
            "response": row["response"], "reference_answer": {"text": row["response"]},
            "metadata": row["metadata"], "processor_config": {},
        }
    ]  # fmt: skip


def test_the_scorer_answers_the_documented_event(tmp_path: Path) -> None:
    scores = [{"kind": "exact_match"}, {"kind": "refusal", "expected": "no", "name": "safe"}]
    rows = [{"q": "Capital?", "a": ["Lima", "lima city"], "no": "yes", "topic": "places"}]
    files = exported(write_suite(tmp_path, "facts", rows=rows, scores=scores), *AWS)
    assert "create-pipeline.json" not in files  # until the scorer is registered
    [row] = [json.loads(line) for line in files["datasets/facts.jsonl"].splitlines()]
    events = [event(row, answer) for answer in ("Lima City\nQ:", "I cannot help with that.", 7)]
    code = "import json, sys; sys.path.insert(0, sys.argv[1]); import lambda_function\n" + (
        "print(json.dumps([lambda_function.lambda_handler(e, None) for e in json.load(sys.stdin)]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path / "out")],
        input=json.dumps(events), capture_output=True, text=True, check=True,
    )  # fmt: skip
    replies = json.loads(done.stdout)
    assert [reply["statusCode"] for reply in replies] == [200, 200, 400]
    values = [
        {metric["name"]: metric["value"] for metric in json.loads(reply["body"])[0]["metrics_list"]}
        for reply in replies[:2]
    ]
    assert values == [
        {"exact_match": 1.0, "safe_refusal_rate": 0.0, "safe_refusal_accuracy": 0.0},
        {"exact_match": 0.0, "safe_refusal_rate": 1.0, "safe_refusal_accuracy": 1.0},
    ]
    assert json.loads(replies[0]["body"])[0]["aggregate_reward_score"] == 1.0


def test_long_names_stay_within_the_limits(tmp_path: Path) -> None:
    suite = write_suite(tmp_path, "facts", "talk")
    text = suite.read_text("utf-8")
    for name in ("facts", "talk"):
        text = text.replace(f"name: {name}", f"name: {'A_' * 31}{name[:2]}")
    suite.write_text(text, encoding="utf-8")
    request = json.loads(exported(suite, *AWS, *TUNED)["create-pipeline.json"])
    steps = json.loads(request["PipelineDefinition"])["Steps"]
    assert len({step["Name"] for step in steps}) == 6
    assert max(len(step["Name"]) for step in steps) <= 64
    for step in steps:
        job = {"TrainingJobName": "x", **plain(step["Arguments"])}
        assert validation_errors("sagemaker", "CreateTrainingJob", job) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--base: a request to SageMaker needs it"),
        (("--base", "Qwen/Qwen3-4B"), "--base: not of the form expected (got Qwen/Qwen3-4B)"),
        ((*AWS, "--model", "support"), "--model: not of the form expected (got support)"),
        (
            (*AWS[:-1], AWS[-1].replace("huggingface-llm-qwen3-4b", "nova-textgeneration-lite")),
            "Amazon Nova takes data and scorers of another form",
        ),
    ],
)
def test_options_are_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    suite = write_suite(tmp_path, "facts")
    out = tmp_path / "out"
    arguments = ["export-suite", str(suite), "--to", "sagemaker", "--out", str(out), *options]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        written = exported(write_suite(Path(temporary), "facts", "talk"), *AWS, *TUNED)
        for name, text in recorded_files(written).items():
            (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / name).write_text(text, encoding="utf-8")
