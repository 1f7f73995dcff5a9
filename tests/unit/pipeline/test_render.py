"""Definition for SageMaker Pipelines: golden, valid step by step, and refused where it must be."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from emulator.pipelines.definition import parse_definition
from emulator.pipelines.definition_rules import definition_errors
from launch.aws.platform_parameters import PlatformParameters
from pipeline.load import load_pipeline
from pipeline.render.account import render
from pipeline.render.definition import Definition
from pipeline.render.jobs import RenderContext
from pipeline.render.references import substitute
from pipeline.render.validation import definition_problems
from tests.run_commands import ROOT
from tests.unit.launch.fake_accounts import ACCOUNT, DEV, IMAGE, VALUES
from training.errors import JobError

GOLDEN = Path(__file__).parent / "golden" / "docs.json"
PLATFORM = PlatformParameters(
    DEV,
    {
        **VALUES,
        "roles/processing": f"arn:aws:iam::{ACCOUNT}:role/temper-dev-processing",
        "roles/pipeline": f"arn:aws:iam::{ACCOUNT}:role/temper-dev-pipeline",
        "images/prepare/uri": f"{IMAGE}/prepare@sha256:{'c' * 64}",
        "pipelines/step-function": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:temper-dev-step",
    },
)


def rendered(file: Path) -> Definition:
    return render(RenderContext(load_pipeline(file), PLATFORM, "ana"))


@pytest.fixture(scope="module")
def docs() -> Definition:
    return rendered(ROOT / "pipelines/docs.yaml")


def test_the_definition_is_the_golden_one(docs: Definition) -> None:
    text = json.dumps(docs.document, indent=1) + "\n"
    if os.environ.get("TEMPER_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_the_emulated_service_accepts_the_definition(docs: Definition) -> None:
    """References are checked against the responses of the operations that describe jobs."""
    assert definition_errors(parse_definition(json.dumps(docs.document))) == []


def test_what_reads_content_by_its_name_is_cached(docs: Definition) -> None:
    """The cache compares addresses, and the address of the sources can have new data."""
    found = steps(docs.document)
    assert [name for name, step in found.items() if "CacheConfig" in step] == ["train", "evaluate"]
    channels = found["train"]["Arguments"]["InputDataConfig"]
    assert {"Get": "Steps.prepare-output.OutputParameters['folder']"} in [
        one["DataSource"]["S3DataSource"]["S3Uri"] for one in channels
    ]
    inputs = found["evaluate"]["Arguments"]["ProcessingInputs"]
    model, suite, champion = (one["S3Input"]["S3Uri"] for one in inputs)
    assert model == {"Get": "Steps.train.ModelArtifacts.S3ModelArtifacts"}
    assert champion == {"Get": "Steps.evaluate-champion.OutputParameters['folder']"}
    assert suite.startswith(f"s3://{VALUES['buckets/data']}/pipelines/docs/suites/")


def test_an_evaluation_against_an_address_is_not_cached(tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "pipelines/docs.yaml").read_text())
    document["steps"]["evaluate"]["against"] = "s3://bucket/model/"
    for step, key in (("prepare", "job"), ("train", "job"), ("evaluate", "suite")):
        document["steps"][step][key] = str(ROOT / "pipelines" / document["steps"][step][key])
    file = tmp_path / "p.yaml"
    file.write_text(yaml.safe_dump(document))
    assert "CacheConfig" not in steps(rendered(file).document)["evaluate"]


def test_data_of_another_step_need_no_hub(docs: Definition) -> None:
    arguments = steps(docs.document)["train"]["Arguments"]
    assert arguments["EnableNetworkIsolation"] is True


def test_everything_that_a_step_reads_is_uploaded(docs: Definition) -> None:
    text = json.dumps(docs.document)
    folders = {key.rpartition("/")[0] for key in docs.objects}
    assert len(folders) == 4
    assert all(f"s3://{VALUES['buckets/data']}/{folder}/" in text for folder in folders)
    gates = next(c for key, c in docs.objects.items() if key.endswith("gates.json"))
    assert json.loads(gates)["better"]["better"] == ["docstrings.bits_per_byte"]
    job = next(c for key, c in docs.objects.items() if b"stage" not in c and b"model:" in c)
    source = yaml.safe_load(job)["data"]["train"][0]["source"]
    assert source == "/opt/ml/input/data/data-prepare"


def steps(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {step["Name"]: step for step in document["Steps"]}
    inside = document["Steps"][-1]["Arguments"]["IfSteps"]
    return found | {step["Name"]: step for step in inside}


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("train", lambda a: a.pop("RoleArn"), 'Missing required parameter in input: "RoleArn"'),
        ("train", lambda a: a.update(TrainingJobName="x"), "is chosen by SageMaker"),
        ("train", lambda a: a.update(Rolearn="x"), "Unknown parameter in input"),
        ("register", lambda a: a.update(ModelApprovalStatus=1), "Invalid type for parameter"),
        (
            "evaluate",
            lambda a: a["ProcessingInputs"][0]["S3Input"].update(
                S3Uri={"Get": "Steps.trian.ModelArtifacts"}
            ),
            "evaluate: refers to trian, which does not exist",
        ),
        (
            "train",
            lambda a: a["Environment"].update(A={"Get": "Steps.register.ModelPackageArn"}),
            "train: refers to register, which a condition may skip",
        ),
    ],
)
def test_what_the_service_would_refuse_is_found(
    docs: Definition, name: str, change: Any, expected: str
) -> None:
    document = copy.deepcopy(docs.document)
    assert definition_problems(document) == []
    change(steps(document)[name]["Arguments"])
    assert expected in "\n".join(definition_problems(document))


def test_two_steps_of_one_name_are_found(docs: Definition) -> None:
    document = copy.deepcopy(docs.document)
    document["Steps"].append(document["Steps"][0])
    assert "prepare: two steps have this name" in definition_problems(document)


def test_steps_that_cannot_run_in_aws_are_all_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "prepare.yaml").write_text(
        "name: p\nprepare: {sources: rows.jsonl, split: {validation: 5%}}\n"
    )
    job = yaml.safe_load((ROOT / "pipelines/docs/train.yaml").read_text())
    job["data"]["train"] = str(tmp_path / "rows.jsonl")
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(job))
    (tmp_path / "suite.yaml").write_text(
        "suite: s\ntasks: [{name: docs, kind: perplexity, data: rows.jsonl, text: text}]\n"
    )
    file = tmp_path / "pipeline.yaml"
    spec = {
        "prepare": {"kind": "prepare", "job": "prepare.yaml"},
        "local": {"kind": "train", "job": "train.yaml"},
        "train": {"kind": "train", "job": str(ROOT / "pipelines/docs/train.yaml"),
                  "data": {"data.train.source": "prepare"}},
        "evaluate": {"kind": "evaluate", "model": "train", "suite": "suite.yaml"},
    }  # fmt: skip
    file.write_text(yaml.safe_dump({"name": "p", "steps": spec}))
    with pytest.raises(JobError) as caught:
        rendered(file)
    text = str(caught.value)
    assert "prepare.sources.0.source: a pipeline in AWS reads the bucket of data" in text
    assert "data.train.0.source: a pipeline in AWS reads addresses in S3" in text
    assert "resources.instance" in text
    assert "steps.evaluate.suite: is not a folder" in text


def test_a_closed_gate_can_be_a_failure(tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "pipelines/docs.yaml").read_text())
    document["steps"]["better"]["otherwise"] = "fail"
    for step in document["steps"].values():
        for key in ("job", "suite"):
            if key in step:
                step[key] = str(ROOT / "pipelines" / step[key])
    file = tmp_path / "docs.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    [end] = rendered(file).document["Steps"][-1]["Arguments"]["ElseSteps"]
    assert end["Type"] == "Fail" and "The gate better is closed" in end["Arguments"]["ErrorMessage"]


def test_placeholders_become_references() -> None:
    reference = {"Get": "Steps.a.B"}
    assert substitute({"x": ["P", "a/P/b", "P/", 1]}, {"P": reference}) == {
        "x": [
            reference,
            {"Std:Join": {"On": "", "Values": ["a/", reference, "/b"]}},
            {"Std:Join": {"On": "", "Values": [reference, "/"]}},
            1,
        ]
    }
