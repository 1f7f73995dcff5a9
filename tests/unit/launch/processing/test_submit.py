"""`temper prepare --target sagemaker`: quoted, asked, sent once, and found again."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.stub import ANY, Stubber

from launch.processing import submit as submit_module
from launch.processing.submit import ProcessingTarget
from launch.targets import aws_target
from temper.cli import main
from tests.emulated_s3 import emulated_s3, s3_client
from tests.unit.launch.processing.test_request import BUCKET, PLATFORM

ARN = "arn:aws:sagemaker:us-east-1:123456789012:processing-job/x"


class Account:
    """Account whose SageMaker is stubbed, call by call, and whose S3 records what is written."""

    environment = PLATFORM.environment

    def __init__(self) -> None:
        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
        self.sagemaker = boto3.client("sagemaker", region_name="us-east-1", **keys)
        self.stub = Stubber(self.sagemaker)
        self.stub.activate()

    def client(self, service: str) -> Any:
        return self.sagemaker

    def caller(self) -> str:
        return "arn:aws:sts::123456789012:assumed-role/engineer/ada"

    def not_found(self) -> None:
        self.stub.add_client_error(
            "describe_processing_job", "ValidationException", "Could not find requested job"
        )

    def found(self, status: str, **more: Any) -> None:
        answer = {
            "ProcessingJobName": "x", "ProcessingResources": {"ClusterConfig": {
                "InstanceCount": 1, "InstanceType": "ml.c5.xlarge", "VolumeSizeInGB": 30}},
            "AppSpecification": {"ImageUri": "i"}, "ProcessingJobArn": ARN,
            "ProcessingJobStatus": status, "CreationTime": datetime.datetime(2026, 1, 1), **more,
        }  # fmt: skip
        self.stub.add_response("describe_processing_job", answer, {"ProcessingJobName": ANY})


class Store:
    """Object store that keeps what is written to it."""

    def __init__(self, s3: Any):
        self.texts: dict[str, str] = {}
        STORES.append(self)

    def put_text(self, text: str, to: Any) -> None:
        self.texts[str(to)] = text

    def upload_artifact(self, artifact: Any, bucket: str, days: Any) -> str:
        return f"s3://{bucket}/uploads/{artifact.digest[:24]}/"


STORES: list[Store] = []


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    made = Account()
    STORES.clear()
    monkeypatch.setenv("YES", "1")
    monkeypatch.setattr("launch.aws.session.AwsSession", lambda environment: made)
    monkeypatch.setattr(aws_target, "read_platform_parameters", lambda *_: PLATFORM)
    monkeypatch.setattr(aws_target, "S3Store", Store)
    monkeypatch.setattr(submit_module, "progress_in_s3", lambda *_: "pass 1 of 5")
    return made


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / "tickets"
    folder.mkdir()
    rows = [{"text": f"The printer on floor {number} is broken again."} for number in range(200)]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "bench.jsonl").write_text(json.dumps({"text": "What is the capital of Peru?"}))
    document = {
        "name": "tickets",
        "prepare": {
            "sources": str(folder),
            "steps": [
                {"step": "normalise"},
                {"step": "decontaminate", "against": [str(tmp_path / "bench.jsonl")]},
                {"step": "duplicates"},
            ],
            "workers": 2,
        },
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def prepare(job: Path, *options: str) -> int:
    return main(["prepare", str(job), "--target", "sagemaker", "--env", "dev", *options])


def test_the_first_call_shows_a_price_asks_and_submits(
    account: Account, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    account.not_found()
    sent: dict[str, Any] = {}
    account.sagemaker.meta.events.register(
        "provide-client-params.sagemaker.CreateProcessingJob",
        lambda params, **_: sent.update(params),
    )
    account.stub.add_response("create_processing_job", {"ProcessingJobArn": ARN})
    assert prepare(job, "--nodes", "2") == 0
    out = capsys.readouterr().out
    assert "2 × ml.c5.xlarge, us-east-1 (dev)" in out
    assert "copies" in out and re.search(r"about (19|20)\d rows", out)
    assert "($0.204 an hour, 2026-07-20)" in out
    assert f"started {ARN}" in out
    assert [i["InputName"] for i in sent["ProcessingInputs"]] == ["job", "source-0", "source-1"]
    assert sent["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == 2
    ((address, text),) = STORES[0].texts.items()
    assert address.startswith(f"s3://{BUCKET}/uploads/prepare/")
    prepared = yaml.safe_load(text)["prepare"]
    inputs = "/opt/ml/processing/input"
    assert prepared["sources"][0]["source"] == f"{inputs}/source-0/tickets"
    assert prepared["steps"][1]["against"] == [f"{inputs}/source-1/bench.jsonl"]
    assert prepared["output"] == f"s3://{BUCKET}/prepared"
    assert "workers" not in prepared
    account.stub.assert_no_pending_responses()


def test_sources_in_s3_are_inputs_where_they_are(
    account: Account, job: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    rows = "".join(json.dumps({"text": f"Ticket {n} is about printers."}) + "\n" for n in range(99))
    names: list[str] = []
    sent: dict[str, Any] = {}

    def record(params: dict[str, Any], **_: Any) -> None:
        sent.update(params)
        names.append(params["ProcessingJobName"])

    account.sagemaker.meta.events.register(
        "provide-client-params.sagemaker.CreateProcessingJob", record
    )
    with emulated_s3() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        s3 = s3_client(variables)
        for bucket in (BUCKET, "elsewhere"):
            s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=BUCKET, Key="raw/mails/a.jsonl", Body=rows)
        s3.put_object(Bucket=BUCKET, Key="raw/chats.jsonl", Body=rows)
        s3.put_object(Bucket="elsewhere", Key="a.jsonl", Body=rows)
        sources = f"prepare.sources=[s3://{BUCKET}/raw/mails,s3://{BUCKET}/raw/chats.jsonl]"
        for added in ("", rows):
            s3.put_object(Bucket=BUCKET, Key="raw/mails/b.jsonl", Body=added or "{}\n")
            account.not_found()
            account.stub.add_response("create_processing_job", {"ProcessingJobArn": ARN})
            assert prepare(job, "--set", sources) == 0
        assert prepare(job, "--set", "prepare.sources=s3://elsewhere/a.jsonl") == 2
    assert names[0] != names[1], "other objects are another preparation"
    out = capsys.readouterr()
    assert f"reads s3://{BUCKET}/raw/mails/ (prepare.sources.0.source)" in out.out
    assert re.search(r"about (29|30)\d rows", out.out), out.out
    assert f"reads the bucket {BUCKET} only (got s3://elsewhere/a.jsonl)" in out.err
    inputs = {i["InputName"]: i["S3Input"] for i in sent["ProcessingInputs"]}
    here = "/opt/ml/processing/input"
    assert inputs["source-0"]["S3Uri"] == f"s3://{BUCKET}/raw/mails/"
    assert inputs["source-0"]["LocalPath"] == f"{here}/source-0/mails"
    assert inputs["source-1"]["S3Uri"] == f"s3://{BUCKET}/raw/chats.jsonl"
    assert inputs["source-1"]["LocalPath"] == f"{here}/source-1"
    ((_, text),) = STORES[-2].texts.items()
    prepared = yaml.safe_load(text)["prepare"]["sources"]
    named = [one["source"] for one in prepared]
    assert named == [f"{here}/source-0/mails", f"{here}/source-1/chats.jsonl"]


@pytest.mark.parametrize(
    ("status", "more", "expected"),
    [
        ("InProgress", {}, "x is running: pass 1 of 5"),
        ("Completed", {"ExitMessage": "200 rows read\ns3://b/prepared/tickets/1"}, "s3://b/prep"),
    ],
)
def test_second_call_finds_the_job_and_spends_nothing(
    account: Account, job: Path, capsys: pytest.CaptureFixture[str], status: str, more: Any,
    expected: str,
) -> None:  # fmt: skip
    account.found(status, **more)
    account.not_found()
    assert prepare(job) == 0
    assert expected in capsys.readouterr().out
    account.stub.assert_no_pending_responses()


def test_a_failed_job_is_reported_with_its_reason_and_resumed_by_another(
    account: Account, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    account.found("Failed", FailureReason="AlgorithmError", ExitMessage="node 1: disk full")
    account.not_found()
    names: list[str] = []
    account.sagemaker.meta.events.register(
        "provide-client-params.sagemaker.CreateProcessingJob",
        lambda params, **_: names.append(params["ProcessingJobName"]),
    )
    account.stub.add_response("create_processing_job", {"ProcessingJobArn": ARN})
    assert prepare(job) == 0
    assert "x failed: node 1: disk full" in capsys.readouterr().out
    assert names[0].endswith("-2")


def test_nothing_is_sent_without_consent(
    account: Account, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YES", "")
    account.not_found()
    assert prepare(job) != 0
    account.stub.assert_no_pending_responses()


def test_quota_is_explained(
    account: Account, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    account.not_found()
    account.stub.add_client_error("create_processing_job", "ResourceLimitExceeded", "limit is 0.")
    assert prepare(job) == 4
    assert "'ml.c5.xlarge for processing job usage'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--instance", "ml.x9.large"], "unknown type (got ml.x9.large). Known are ml.c5.xlarge"),
        (["--target", "moon"], "unknown target (got moon)"),
        (["--target", "local", "--nodes", "2"], "--nodes: this is one machine (got 2)"),
        (["--target", "slurm", "--instance", "ml.c5.xlarge"], "slurm has no instance types"),
        (["--set", "prepare.sources=nowhere.jsonl"], "there is no such file or folder"),
    ],
)
def test_mistakes_are_named_before_anything_is_sent(
    account: Account, job: Path, capsys: pytest.CaptureFixture[str], options: list[str],
    message: str,
) -> None:  # fmt: skip
    assert prepare(job, *options) == 2
    assert message in capsys.readouterr().err


def test_an_environment_without_processing_jobs_is_refused_with_a_fix(
    account: Account, job: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    values = {k: v for k, v in PLATFORM.values.items() if k != "roles/processing"}
    without = type(PLATFORM)(PLATFORM.environment, values)
    monkeypatch.setattr(ProcessingTarget, "platform", without)
    assert prepare(job) == 4
    assert "temper publish-image prepare --env dev" in capsys.readouterr().err
