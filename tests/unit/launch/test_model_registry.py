"""Versions of the model registry as a job's model, against moto's registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from launch.aws.model_registry import find_version, with_registered_models
from launch.errors import LaunchError
from launch.job_inputs import collect_inputs, rewrite_paths
from launch.submit import resolve_registered_models
from planning import hf_config
from planning.hf_config import read_registry_with, read_s3_with, read_shape
from training.config import Job
from training.config.input_paths import require_inputs
from training.config.load import parse_job
from training.errors import JobError, ModelError, TemperError

GROUP = "temper-dev-models"
MODEL = "s3://temper-dev-models-123456789012-us-east-1/models/support/1/job/output/model"
ARN = f"arn:aws:sagemaker:us-east-1:123456789012:model-package/{GROUP}"
CONTENT = {
    "SupportedContentTypes": ["application/json"],
    "SupportedResponseMIMETypes": ["application/json"],
}


def container(uri: str) -> dict[str, Any]:
    """Return a container as SageMaker registers the uncompressed model of a training job."""
    source = {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve"
    return {"Image": image, "ModelDataSource": {"S3DataSource": source}}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a client of a registry: version 1 approved, version 2 not yet."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        client = boto3.client("sagemaker", region_name="us-east-1")
        client.create_model_package_group(ModelPackageGroupName=GROUP)
        for number, status in ((1, "Approved"), (2, "PendingManualApproval")):
            client.create_model_package(
                ModelPackageGroupName=GROUP,
                ModelApprovalStatus=status,
                InferenceSpecification={"Containers": [container(f"{MODEL}-{number}")], **CONTENT},
            )
        yield client


def job(source: str, **model: Any) -> Job:
    document = {
        "name": "next",
        "model": {"source": source, **model},
        "data": {"train": "builtin:python-stdlib"},
        "method": {"kind": "sft"},
        "train": {"max_steps": 3},
    }
    job = parse_job(document, "test")
    assert isinstance(job, Job)
    return job


@pytest.mark.parametrize("source", [f"registry:{GROUP}/1", f"registry:{GROUP}", f"{ARN}/1"])
def test_an_approved_version_becomes_the_address_of_its_model(registry: Any, source: str) -> None:
    """The newest version is not approved, so that the newest approved one is the first."""
    resolved = with_registered_models(job(source), registry)
    assert isinstance(resolved, Job)
    assert resolved.model.source == f"{MODEL}-1/"
    assert resolved.model.model_package_arn == f"{ARN}/1"


def test_the_version_travels_with_the_job(registry: Any) -> None:
    """The container reads the model from its channel, and its manifest has the version."""
    resolved = with_registered_models(job(f"registry:{GROUP}/1"), registry)
    (model,) = [item for item in collect_inputs(resolved) if item.key == "model.source"]
    assert model.s3_uri == f"{MODEL}-1/"
    text = rewrite_paths(resolved, [model], lambda item: f"/opt/ml/input/data/{item.channel}")
    assert "source: /opt/ml/input/data/model" in text
    assert f"model_package_arn: {ARN}/1" in text


def test_a_version_that_is_not_approved(registry: Any) -> None:
    with pytest.raises(LaunchError, match=r"PendingManualApproval.*--model-package-arn \S+/2 --m"):
        with_registered_models(job(f"registry:{GROUP}/2"), registry)
    allowed = with_registered_models(job(f"registry:{GROUP}/2", approval="none"), registry)
    assert isinstance(allowed, Job) and allowed.model.source == f"{MODEL}-2/"
    newest = with_registered_models(job(f"registry:{GROUP}", approval="none"), registry)
    assert isinstance(newest, Job) and newest.model.model_package_arn == f"{ARN}/2"


@pytest.mark.parametrize(
    ("which", "number"),
    [("support", 3), ("support@1.0.0", 3), ("support@1.1.0", 5), ("other", 4), ("4", 4), ("", 4)],
)
def test_a_registered_model_is_found_by_its_name(registry: Any, which: str, number: int) -> None:
    """`support` means its newest approved version, not the newest of the group."""
    versions = (
        ("support@1.0.0", "Approved"),
        ("other@2.0.0", "Approved"),
        ("support@1.1.0", "PendingManualApproval"),
        ("support@1.1.0", "PendingManualApproval"),  # pushed twice at once: the first counts
    )
    for at, (model, status) in enumerate(versions, start=3):
        registry.create_model_package(
            ModelPackageGroupName=GROUP,
            ModelPackageDescription=f"{model} sft of org/base",
            ModelApprovalStatus=status,
            InferenceSpecification={"Containers": [container(f"{MODEL}-{at}")], **CONTENT},
        )
    source = f"registry:{GROUP}/{which}".rstrip("/")
    assert find_version(registry, job(source).model.source).arn == f"{ARN}/{number}"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            f"registry:{GROUP}/support@1.0.0",
            r"has no version support@1\.0\.0\. Its newest versions: 2",
        ),
        (f"registry:{GROUP}/support", r"has no approved version of support\. Its newest"),
        (f"registry:{GROUP}/7", r"has no version 7. Its newest versions: 2 \(Pending.*1 \(Appr"),
        ("registry:other-models/1", "other-models"),
        (f"{ARN.replace('us-east-1', 'eu-west-1')}/1", "is in eu-west-1, and this job runs in us-"),
    ],
)
def test_a_version_that_does_not_exist_here(registry: Any, source: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        find_version(registry, source)


def test_descriptions_that_name_no_single_model(registry: Any) -> None:
    """The replies pass botocore's validation against the service's own description."""
    algorithm = {"AlgorithmName": "a", "ModelDataUrl": f"{MODEL}.tar.gz"}
    specifications: list[tuple[dict[str, Any], str]] = [
        ({"SourceAlgorithmSpecification": {"SourceAlgorithms": [algorithm]}}, ""),
        ({}, "holds: none"),
        (
            {
                "InferenceSpecification": {
                    "Containers": [container("s3://a/b"), container("s3://c")]
                }
            },
            "holds: s3://a/b/, s3://c/",
        ),
        ({"ModelPackageStatus": "Failed"}, "has the status Failed"),
    ]
    client = boto3.client("sagemaker", region_name="us-east-1")
    for specification, message in specifications:
        reply = {
            "ModelPackageName": GROUP,
            "ModelPackageArn": f"{ARN}/1",
            "CreationTime": 0,
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": []},
            "ModelApprovalStatus": "Approved",
            **specification,
        }
        with Stubber(client) as stubber:
            stubber.add_response("describe_model_package", reply, {"ModelPackageName": f"{ARN}/1"})
            if not message:
                assert find_version(client, f"{ARN}/1").address == f"{MODEL}.tar.gz"
                continue
            with pytest.raises(LaunchError, match=message):
                find_version(client, f"{ARN}/1")


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the objects that a plan reads, and let it read them and the registry."""
    content: dict[str, Any] = {}

    def read(address: str) -> str:
        if address not in content:
            raise ModelError(f"{address}: there is no such object")
        return json.dumps(content[address])

    hf_config.shape_named.cache_clear()
    monkeypatch.setattr(hf_config, "_readers", hf_config._Readers())
    read_s3_with(read)
    return content


def test_a_plan_reads_the_model_of_the_version(
    registry: Any, objects: dict[str, Any], tiny_model: Path
) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    with pytest.raises(JobError, match=r"which this command does not read.*temper plan"):
        read_shape(job(f"registry:{GROUP}/1"))
    read_registry_with(lambda source: find_version(registry, source).address)
    objects[f"{MODEL}-1/config.json"] = {**config, "num_hidden_layers": 7}
    assert read_shape(job(f"registry:{GROUP}/1")).layers == 7


def test_a_plan_of_an_adapter_in_s3(objects: dict[str, Any], tiny_model: Path) -> None:
    """A registered adapter records the path of its base in the container that trained it."""
    base = {"base_model_name_or_path": "/opt/ml/input/data/model/base"}
    objects[f"{MODEL}-1/adapter_config.json"] = base
    with pytest.raises(JobError, match=r"/opt/ml/input/data/model/base.*Set model.base_model"):
        read_shape(job(f"{MODEL}-1/"))
    assert read_shape(job(f"{MODEL}-1/", base_model=str(tiny_model))).layers == 2


def test_a_run_on_this_machine_is_refused_with_the_download_command(tmp_path: Path) -> None:
    named = job(f"registry:{GROUP}/1")
    (line,) = require_inputs(named, tmp_path)
    assert "not checked: the model registry is asked" in line
    with pytest.raises(
        TemperError, match=r"describe-model-package .*aws s3 cp --recursive ADDRESS"
    ):
        require_inputs(named, tmp_path, here=True)


@pytest.mark.parametrize("target", ["sagemaker", "local"])
def test_a_submission_asks_the_registry_of_its_environment(
    registry: Any, tmp_path: Path, target: Any
) -> None:
    named, file = job(f"registry:{GROUP}/1"), tmp_path / "job.yaml"
    if target == "local":
        with pytest.raises(ModelError, match="does not download from the model registry"):
            resolve_registered_models(named, file, target, "dev")
        return
    resolved = resolve_registered_models(named, file, target, "dev")
    assert isinstance(resolved, Job) and resolved.model.model_package_arn == f"{ARN}/1"


def test_keys_that_take_no_version() -> None:
    document = {
        "name": "next",
        "model": {"source": "owner/model", "approval": "none"},
        "data": {"train": "a.jsonl"},
        "method": {"kind": "distill", "teacher": f"registry:{GROUP}/1"},
        "train": {"max_steps": 3},
    }
    with pytest.raises(JobError) as raised:
        parse_job(document, "test")
    assert "method.teacher: only model.source can be a version" in str(raised.value)
    assert "model.approval: concerns the model registry" in str(raised.value)
