"""Requests to SageMaker, held against the service's own description and its rules."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator

from deployment.account import DeploymentAccount
from deployment.model import DeployedModel
from deployment.sagemaker.alarms import (
    backlog_alarm,
    error_alarm,
    latency_alarm,
    of_component,
    of_endpoint,
    wake_alarm,
)
from deployment.sagemaker.component_requests import (
    adapter_specification,
    component_config_request,
    component_request,
    model_specification,
    rolling_update,
)
from deployment.sagemaker.requests import (
    config_request,
    deployment_config,
    endpoint_request,
    model_request,
)
from deployment.spec import Rollout, read_spec
from deployment.targets.asynchronous import AsynchronousTarget
from deployment.targets.base import DeploymentRequest
from deployment.targets.batch import BatchTarget
from emulator.botocore_schema import validation_errors
from launch.aws.session import AwsSession
from tests.unit.launch.fake_accounts import ACCOUNT, DEV, IMAGE, KEY, VALUES, platform

SERVING = {
    **VALUES,
    "roles/serving": f"arn:aws:iam::{ACCOUNT}:role/temper-dev-serving",
    "serving/security-group": "sg-0a1b2c3d4e5f60002",
    "images/serve/uri": f"{IMAGE}/serve@sha256:{'c' * 64}",
    "images/serve-gpu/uri": f"{IMAGE}/serve-gpu@sha256:{'d' * 64}",
}
MODEL = DeployedModel(
    name="support",
    version="1.4.0",
    form="safetensors",
    folder="s3://temper-dev-models/registry/sha256/abc/",
    package="arn:aws:sagemaker:us-east-1:123456789012:model-package/temper-dev-models/7",
    tree="abc",
    size_bytes=2 << 30,
)


class OfflineSession(AwsSession):
    """Session whose clients are never asked."""

    def client(self, service: str) -> Any:
        return boto3.Session("test", "test", region_name="us-east-1").client(service)


@pytest.fixture
def account() -> DeploymentAccount:
    caller = "arn:aws:sts::123456789012:assumed-role/temper-dev-deployer/anna"
    return DeploymentAccount(OfflineSession(DEV), platform(**SERVING), caller)


def request(**values: Any) -> DeploymentRequest:
    """Return a request to deploy the model."""
    given = {
        "model": MODEL.id,
        "to": "endpoint",
        "instance": "ml.g5.xlarge",
        "end": {"idle_hours": 6},
        **values,
    }
    return DeploymentRequest(read_spec(None, given), MODEL, "anna")


def check(service: str, operation: str, content: dict[str, Any]) -> None:
    """Assert that a request is one that the service's description allows."""
    assert validation_errors(service, operation, content) == []
    client = boto3.Session("test", "test", region_name="us-east-1").client(service)
    shape = client.meta.service_model.operation_model(operation).input_shape
    report = ParamValidator().validate(content, shape)
    assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize("instance", ["ml.g5.xlarge", "ml.c5.2xlarge", "ml.p5.48xlarge"])
def test_requests_of_an_endpoint(account: DeploymentAccount, instance: str) -> None:
    asked = request(instance=instance, capture="10%", copies=2)
    model = model_request(account, asked)
    check("sagemaker", "CreateModel", model)
    config = config_request(account, asked, model["ModelName"])
    check("sagemaker", "CreateEndpointConfig", config)
    check("sagemaker", "CreateEndpoint", endpoint_request(account, asked, "c"))
    (variant,) = config["ProductionVariants"]
    is_gpu = instance != "ml.c5.2xlarge"
    assert ("InferenceAmiVersion" in variant) == is_gpu
    assert ("KmsKeyId" in config) == (not is_gpu)
    kind = "serve-gpu" if is_gpu else "serve"
    assert model["PrimaryContainer"]["Image"] == SERVING[f"images/{kind}/uri"]
    assert config["DataCaptureConfig"]["KmsKeyId"] == f"{KEY}0b0c0d0e-1111-2222-3333-444455556666"


def test_names_follow_from_the_content(account: DeploymentAccount) -> None:
    names = [
        model_request(account, asked)["ModelName"]
        for asked in (
            request(),
            request(),
            request(settings={"MAX_CONTEXT": "512"}),
            request(name="a" * 32),
        )
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert all(len(name) <= 63 for name in names)


def test_tags_name_version_owner_and_end(account: DeploymentAccount) -> None:
    tags = {t["Key"]: t["Value"] for t in endpoint_request(account, request(), "c")["Tags"]}
    assert tags == {
        "Project": "temper",
        "Environment": "dev",
        "Owner": "platform-team@example.com",
        "CostCentre": "research",
        "temper:deployment": "support",
        "temper:model": "support",
        "temper:version": "1.4.0",
        "temper:owner": "anna",
        "temper:idle-hours": "6",
    }


def test_requests_of_a_component(account: DeploymentAccount) -> None:
    asked = request(to="component", scaling={"min": 0, "max": 3}, instance="ml.g5.12xlarge")
    config = component_config_request(account, asked)
    check("sagemaker", "CreateEndpointConfig", config)
    (variant,) = config["ProductionVariants"]
    scaling = variant["ManagedInstanceScaling"]
    assert (scaling["MinInstanceCount"], scaling["MaxInstanceCount"]) == (0, 3)
    assert "ModelName" not in variant
    specification = model_specification(asked, "m")
    check("sagemaker", "CreateInferenceComponent", component_request(account, asked, specification))
    compute = specification["ComputeResourceRequirements"]
    assert compute == {"MinMemoryRequiredInMb": 2560, "NumberOfAcceleratorDevicesRequired": 4}
    update = {
        "InferenceComponentName": "a",
        "Specification": specification,
        "DeploymentConfig": rolling_update(asked.spec.rollout, ("a", "b")),
    }
    check("sagemaker", "UpdateInferenceComponent", update)
    adapter = request(to="component", adapter_of="base")
    content = component_request(account, adapter, adapter_specification("b", "s3://b/a.tar.gz"))
    check("sagemaker", "CreateInferenceComponent", content)
    assert content["EndpointName"] == "temper-dev-base"
    assert not {"VariantName", "RuntimeConfig"} & content.keys()


def test_the_configuration_of_a_component_stays_for_another_version(
    account: DeploymentAccount,
) -> None:
    first = component_config_request(account, request(to="component"))
    other = DeploymentRequest(request(to="component").spec, MODEL, "anna")
    assert (
        component_config_request(account, other)["EndpointConfigName"]
        == (first["EndpointConfigName"])
    )


def test_requests_of_an_asynchronous_endpoint(account: DeploymentAccount) -> None:
    config = AsynchronousTarget(account).config(request(to="async"), "m")
    check("sagemaker", "CreateEndpointConfig", config)
    output = config["AsyncInferenceConfig"]["OutputConfig"]
    assert output["S3OutputPath"].endswith("/serving/support/answers")


@pytest.mark.parametrize("instance", ["ml.c5.2xlarge", "ml.g5.xlarge"])
def test_requests_of_a_batch(account: DeploymentAccount, instance: str) -> None:
    target = BatchTarget(account)
    asked = request(to="batch", instance=instance, batch={"input": "s3://b/rows.jsonl"})
    job = target.job_request(asked, "m")
    check("sagemaker", "CreateTransformJob", job)
    assert target.job_request(asked, "m") == job, "the same command has the same name"
    elsewhere = {"input": "s3://b/rows.jsonl", "output": "s3://b/again"}
    other = target.job_request(request(to="batch", instance=instance, batch=elsewhere), "m")
    assert other["TransformJobName"] != job["TransformJobName"]
    resources = job["TransformResources"]
    assert ("TransformAmiVersion" in resources) == (instance == "ml.g5.xlarge")
    assert job["MaxConcurrentTransforms"] * job["MaxPayloadInMB"] <= 100


@pytest.mark.parametrize(
    ("rollout", "size"),
    [
        ({"kind": "canary", "size": "10%"}, "CanarySize"),
        ({"kind": "linear", "size": "25%"}, "LinearStepSize"),
        ({"kind": "all-at-once"}, None),
    ],
)
def test_guardrails(rollout: dict[str, Any], size: str | None) -> None:
    config = deployment_config(Rollout.model_validate(rollout), ["a", "b"])
    content = {"EndpointName": "e", "EndpointConfigName": "c", "DeploymentConfig": config}
    check("sagemaker", "UpdateEndpoint", content)
    routing = config["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert {"CanarySize", "LinearStepSize"} & routing.keys() == ({size} if size else set())


def test_alarms(account: DeploymentAccount) -> None:
    rollout = Rollout()
    for dimensions in (of_endpoint("e"), of_component("c")):
        check("cloudwatch", "PutMetricAlarm", error_alarm(account, "a", rollout, dimensions))
        latency = latency_alarm(account, "a", rollout, dimensions)
        check("cloudwatch", "PutMetricAlarm", latency)
        assert latency["Threshold"] == 30e6
    policy = "arn:aws:autoscaling:us-east-1:123456789012:scalingPolicy:1"
    for alarm in (wake_alarm("c", policy), backlog_alarm("e", policy)):
        check("cloudwatch", "PutMetricAlarm", alarm)
        assert alarm["AlarmActions"] == [policy]
