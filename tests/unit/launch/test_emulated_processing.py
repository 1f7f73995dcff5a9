"""Emulated processing jobs: a preparation on two instances, and what the service rejects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import orjson
import pytest
import yaml
from botocore.exceptions import ClientError

from emulator.instance import NamespaceRuntime
from emulator.job_lifecycle import ServiceTimings
from emulator.sagemaker_api import EmulatorServer, SageMakerEmulator
from temper.cli import main
from tests.unit.launch.conftest import deploy_by_hand, environment_of, until
from tests.unit.launch.fake_accounts import DEV

BUCKET = "temper-dev-data-123456789012"
INPUT = "/opt/ml/processing/input"
ABSENT_IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/temper-dev/absent@sha256:{'0' * 64}"
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def service(
    emulator: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[SageMakerEmulator, Any, str]]:
    """Yield the service, a client of it, and the address of an image."""
    home = tmp_path_factory.mktemp("processing")
    timings = ServiceTimings(grace_s=5)
    emulated = SageMakerEmulator(emulator, DEV.region, home, NamespaceRuntime(), timings)
    deploy_by_hand(emulated, DEV)
    emulated.client("ecr").create_repository(repositoryName="temper-dev/prepare")
    image = environment_of(emulated, {}, home).promote_image("prepare")
    with EmulatorServer(emulated) as server:
        session = boto3.Session("test", "test", region_name=DEV.region)
        yield emulated, session.client("sagemaker", endpoint_url=server.url), image


def _request(image: str, name: str = "tidy", instances: int = 2) -> dict[str, Any]:
    def read(key: str, to: str) -> dict[str, Any]:
        place = {"S3Uri": f"s3://{BUCKET}/uploads/{key}", "LocalPath": f"{INPUT}/{to}"}
        return {"S3DataType": "S3Prefix", "S3InputMode": "File", **place}

    return {
        "ProcessingJobName": name,
        "RoleArn": "arn:aws:iam::123456789012:role/temper-dev-training",
        "AppSpecification": {"ImageUri": image},
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": instances,
                "InstanceType": "ml.m5.xlarge",
                "VolumeSizeInGB": 30,
            }
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        "ProcessingInputs": [
            {"InputName": "job", "S3Input": read(f"{name}/job/", "job")},
            {"InputName": "source-0", "S3Input": read("sources/", "source-0/sources")},
        ],
        "Tags": [{"Key": "temper:creator", "Value": "ada"}],
    }


def _upload(s3: Any, sources: Path, name: str, job: dict[str, Any]) -> None:
    for path in sorted(sources.iterdir()):
        s3.upload_file(str(path), BUCKET, f"uploads/sources/{path.name}")
    text = yaml.safe_dump(job).encode()
    s3.put_object(Bucket=BUCKET, Key=f"uploads/{name}/job/job.yaml", Body=text)


def _job(sources: str, output: str) -> dict[str, Any]:
    return {
        "name": "tidy",
        "prepare": {
            "sources": sources,
            "steps": [{"step": "normalise"}, {"step": "duplicates", "action": "drop"}],
            "split": {"validation": 0.2},
            "output": output,
            "unit_mib": 1,
            "workers": 1,
        },
    }


def _await(client: Any, name: str, *statuses: str) -> dict[str, Any]:
    def describe() -> dict[str, Any]:
        answer: dict[str, Any] = client.describe_processing_job(ProcessingJobName=name)
        return answer

    until(lambda: describe()["ProcessingJobStatus"] in statuses)
    return describe()


@pytest.mark.slow
def test_two_instances_write_the_bytes_of_one_machine(
    service: tuple[SageMakerEmulator, Any, str], tmp_path: Path
) -> None:
    emulated, client, image = service
    sources = tmp_path / "sources"
    sources.mkdir()
    for part in range(2):
        rows = [{"text": " ".join(f"w{n % 40}x{k}" for k in range(300))} for n in range(60)]
        (sources / f"{part}.jsonl").write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    local = tmp_path / "job.yaml"
    local.write_text(yaml.safe_dump(_job(str(sources), str(tmp_path / "out"))))
    subprocess.run([sys.executable, "-m", "temper", "prepare", str(local)], check=True)
    folder = (tmp_path / "out/tidy/latest").resolve()
    one = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}

    s3 = emulated.client("s3")
    job = _job(f"{INPUT}/source-0/sources", f"s3://{BUCKET}/prepared")
    _upload(s3, sources, "tidy", job)
    created = client.create_processing_job(**_request(image))
    ended = _await(client, "tidy", "Completed", "Failed")
    assert ended["ProcessingJobStatus"] == "Completed", ended
    prefix = f"prepared/tidy/{folder.name}/"
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    stored = {
        item["Key"].removeprefix(prefix): s3.get_object(Bucket=BUCKET, Key=item["Key"])[
            "Body"
        ].read()
        for item in listed
        if not item["Key"].endswith("/")
    }
    recipe = one["recipe.yaml"].replace(str(sources).encode(), f"{INPUT}/source-0/sources".encode())
    assert stored == one | {"recipe.yaml": recipe}, "the digest and the bytes of this machine"
    assert ended["ExitMessage"].endswith(f"s3://{BUCKET}/{prefix.rstrip('/')}")
    tags = client.list_tags(ResourceArn=created["ProcessingJobArn"])["Tags"]
    assert tags == [{"Key": "temper:creator", "Value": "ada"}]
    listing = client.list_processing_jobs(StatusEquals="Completed")["ProcessingJobSummaries"]
    assert [found["ProcessingJobName"] for found in listing] == ["tidy"]
    with pytest.raises(ClientError, match="is in status Completed"):
        client.stop_processing_job(ProcessingJobName="tidy")
    streams = emulated.client("logs").describe_log_streams(
        logGroupName="/aws/sagemaker/ProcessingJobs", logStreamNamePrefix="tidy/"
    )["logStreams"]
    assert sorted(stream["logStreamName"][:11] for stream in streams) == [
        "tidy/algo-1",
        "tidy/algo-2",
    ]


@pytest.mark.slow
def test_the_reason_of_a_failure_is_described(
    service: tuple[SageMakerEmulator, Any, str], tmp_path: Path
) -> None:
    emulated, client, image = service
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "rows.jsonl").write_text(json.dumps({"text": "a"}) + "\n")
    job = _job(f"{INPUT}/source-0/absent", f"s3://{BUCKET}/prepared")
    _upload(emulated.client("s3"), sources, "absent", job)
    client.create_processing_job(**_request(image, "absent", instances=1))
    ended = _await(client, "absent", "Completed", "Failed")
    assert ended["ProcessingJobStatus"] == "Failed"
    assert ended["FailureReason"].endswith("exit code: 2"), ended
    assert f"{INPUT}/source-0/absent" in ended["ExitMessage"]


@pytest.mark.slow
def test_a_stopped_job_ends_as_stopped(
    service: tuple[SageMakerEmulator, Any, str], tmp_path: Path
) -> None:
    emulated, client, image = service
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "rows.jsonl").write_text(json.dumps({"text": "a"}) + "\n")
    job = _job(f"{INPUT}/source-0/sources", f"s3://{BUCKET}/prepared")
    _upload(emulated.client("s3"), sources, "halted", job)
    client.create_processing_job(**_request(image, "halted", instances=1))
    client.stop_processing_job(ProcessingJobName="halted")
    ended = _await(client, "halted", "Completed", "Failed", "Stopped")
    assert ended["ProcessingJobStatus"] == "Stopped", ended


def test_an_input_without_objects_fails_the_job(
    service: tuple[SageMakerEmulator, Any, str],
) -> None:
    _, client, image = service
    client.create_processing_job(**_request(image, "nothing"))
    ended = _await(client, "nothing", "Completed", "Failed")
    assert "No S3 objects found under S3 URL" in ended["FailureReason"]


def _replace_entry_point(request: dict[str, Any]) -> None:
    request["AppSpecification"]["ContainerEntrypoint"] = ["python"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(RoleArn="arn:aws:iam::123456789012:role/absent-role"), "assume role"),
        (lambda r: r["AppSpecification"].update(ImageUri=ABSENT_IMAGE), "find requested image"),
        (lambda r: r.update(ProcessingOutputConfig={"KmsKeyId": "k", "Outputs": []}), "KMS key k"),
        (lambda r: r["ProcessingInputs"][0]["S3Input"].update(LocalPath="/data"), "not below"),
        (
            lambda r: r["ProcessingInputs"][1]["S3Input"].update(
                S3DataDistributionType="ShardedByS3Key"
            ),
            "ShardedByS3Key is not emulated",
        ),
        (_replace_entry_point, "ContainerEntrypoint is not emulated"),
        (
            lambda r: r["StoppingCondition"].update(MaxRuntimeInSeconds=10_000_000),
            "at most 777600",
        ),
        (
            lambda r: r["ProcessingResources"]["ClusterConfig"].update(InstanceType="ml.nope"),
            "not one of the service's values",
        ),
    ],
)
def test_a_request_that_cannot_run_is_rejected(
    service: tuple[SageMakerEmulator, Any, str], change: Change, message: str
) -> None:
    _, client, image = service
    request = _request(image, "rejected")
    change(request)
    with pytest.raises(ClientError, match=message):
        client.create_processing_job(**request)
    with pytest.raises(ClientError, match="Could not find requested job"):
        client.describe_processing_job(ProcessingJobName="rejected")


def test_the_quota_of_processing_jobs_is_enforced(
    service: tuple[SageMakerEmulator, Any, str],
) -> None:
    emulated, client, image = service
    emulated.faults.quotas["ml.m5.xlarge"] = 1
    try:
        with pytest.raises(ClientError, match="for processing job usage' is 1"):
            client.create_processing_job(**_request(image, "many"))
    finally:
        emulated.faults.quotas.clear()


@pytest.mark.slow
def test_the_command_submits_a_preparation_and_finds_its_data_set(
    service: tuple[SageMakerEmulator, Any, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    emulated, client, _ = service
    variables = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL": emulated.client("s3").meta.endpoint_url,
        "AWS_ENDPOINT_URL_SAGEMAKER": client.meta.endpoint_url,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "YES": "1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("launch.environment.read_environment", lambda name: DEV)
    emulated.client("ssm").put_parameter(
        Name=f"/{DEV.prefix}/roles/processing",
        Value="arn:aws:iam::123456789012:role/temper-dev-training",
        Type="String",
    )
    sources = tmp_path / "tickets"
    sources.mkdir()
    rows = [{"text": f"The printer on floor {n} is broken."} for n in range(40)]
    (sources / "a.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(_job(str(sources), str(tmp_path / "out"))))
    command = ["prepare", str(job), "--target", "sagemaker", "--env", "dev", "--nodes", "2"]
    assert main(command) == 0
    started = capsys.readouterr().out
    assert "2 × ml.c5.xlarge" in started
    (name,) = [
        line.rpartition("/")[2] for line in started.splitlines() if line.startswith("started arn:")
    ]
    ended = _await(client, name, "Completed", "Failed")
    assert ended["ProcessingJobStatus"] == "Completed", ended
    assert main(command) == 0
    assert main(["prepare", str(job)]) == 0
    digest = (tmp_path / "out/tidy/latest").resolve().name
    out = capsys.readouterr().out
    assert f"{name} is complete already" in out
    assert f"s3://{BUCKET}/prepared/tidy/{digest}" in out, "the digest of this machine"
