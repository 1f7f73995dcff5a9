"""Requests that the emulated hosting rejects, with the rule that each breaks."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.unit.emulator.conftest import BUCKET, ROLE, HostedAccount, model_request, variant

Request = dict[str, Any]
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/absent:1"
COMPONENTS = {"InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}
SCALING = {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 2}


def _source(address: str, kind: str = "S3Prefix", packing: str = "None") -> Request:
    source = {"S3Uri": address, "S3DataType": kind, "CompressionType": packing}
    return {"ModelDataSource": {"S3DataSource": source}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Image": IMAGE}, "Cannot find requested image"),
        (_source(f"s3://{BUCKET}/absent/"), "Could not find model data at s3://models/absent/"),
        (_source(f"s3://{BUCKET}/one"), "must end with a forward slash"),
        (_source(f"s3://{BUCKET}/one/", packing="Gzip"), "Gzip needs S3DataType S3Object"),
        ({"ModelDataUrl": f"s3://{BUCKET}/one/answer.txt"}, "Only one of ModelDataUrl"),
        ({"Mode": "MultiModel"}, "MultiModel is not emulated"),
        ({"Environment": {"TEMPLATE": "x" * 1025}}, "1024"),
    ],
)
def test_models(account: HostedAccount, changes: Request, message: str) -> None:
    address = account.put_model("one", answer="1")
    with pytest.raises(ClientError, match=message) as caught:
        account.client("sagemaker").create_model(**model_request("one", address, **changes))
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert account.client("sagemaker").list_models()["Models"] == []


def test_a_gated_model_needs_an_accepted_license(account: HostedAccount) -> None:
    address = account.put_model("gated", answer="1")
    account.emulator.hosting.context.faults.gated = (address,)
    sagemaker = account.client("sagemaker")
    with pytest.raises(ClientError, match=r"ModelAccessConfig.AcceptEula to true"):
        sagemaker.create_model(**model_request("gated", address))
    request = model_request("gated", address)
    source = request["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]
    source["ModelAccessConfig"] = {"AcceptEula": True}
    sagemaker.create_model(**request)
    described = sagemaker.describe_model(ModelName="gated")
    assert described["PrimaryContainer"] == request["PrimaryContainer"]
    with pytest.raises(ClientError, match="Cannot create already existing model"):
        sagemaker.create_model(**request)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"ProductionVariants": [variant("absent")]}, "Could not find model"),
        ({"ProductionVariants": [variant("one"), variant("one")]}, "must be unique"),
        (
            {"ProductionVariants": [variant("one"), {"VariantName": "b", **COMPONENTS}]},
            "Either all variants or none",
        ),
        (
            {"ProductionVariants": [variant("one", ManagedInstanceScaling=SCALING)]},
            "only supported for inference component endpoints",
        ),
        ({"ProductionVariants": [{"VariantName": "b", **COMPONENTS}]}, "ExecutionRoleArn is requ"),
        ({"ExecutionRoleArn": ROLE}, "belongs to the model"),
        (
            {
                "ExecutionRoleArn": ROLE,
                "ProductionVariants": [
                    {
                        "VariantName": "b",
                        **COMPONENTS,
                        "ManagedInstanceScaling": {**SCALING, "MinInstanceCount": 2},
                    }
                ],
            },
            "InitialInstanceCount 1 must be from MinInstanceCount 2 to MaxInstanceCount 2",
        ),
        (
            {"ShadowProductionVariants": [variant("one", "s"), variant("one", "t")]},
            "one production and one shadow variant",
        ),
        ({"AsyncInferenceConfig": {"OutputConfig": {}}}, "needs S3OutputPath"),
        ({"ProductionVariants": [variant("one", ServerlessConfig={})]}, "MemorySizeInMB"),
    ],
)
def test_configurations(account: HostedAccount, request_: Request, message: str) -> None:
    account.model("one")
    complete = {"ProductionVariants": [variant("one")], **request_}
    with pytest.raises(Exception, match=message):
        account.emulator.services[0].call(
            "CreateEndpointConfig", {"EndpointConfigName": "one", **complete}
        )


@pytest.mark.slow
def test_a_volume_key_excludes_local_storage(account: HostedAccount) -> None:
    account.model("one")
    with pytest.raises(ClientError, match=r"ml.g5.xlarge, which has local storage"):
        account.config("one", "one", KmsKeyId="key")


def _blue_green(kind: str, **sizes: Any) -> Request:
    routing = {"Type": kind, "WaitIntervalInSeconds": 60, **sizes}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}


def _size(value: int, kind: str = "CAPACITY_PERCENT") -> Request:
    return {"Type": kind, "Value": value}


ROLLING = {"MaximumBatchSize": _size(25), "WaitIntervalInSeconds": 60}
LONG = {**_blue_green("CANARY", CanarySize=_size(25))["BlueGreenUpdatePolicy"]}


@pytest.mark.parametrize(
    ("deployment", "message"),
    [
        (_blue_green("CANARY"), "CanarySize is required"),
        (_blue_green("CANARY", CanarySize=_size(51)), "from 1 to 50 percent"),
        (_blue_green("CANARY", CanarySize=_size(3, "INSTANCE_COUNT")), "is 75%"),
        (_blue_green("LINEAR", LinearStepSize=_size(9)), "from 10 to 50 percent"),
        (_blue_green("LINEAR", CanarySize=_size(9)), "CanarySize cannot be specified"),
        (_blue_green("ALL_AT_ONCE", CanarySize=_size(9)), "CanarySize cannot be specified"),
        ({"RollingUpdatePolicy": {**ROLLING, "MaximumBatchSize": _size(51)}}, "from 5 to 50"),
        (
            {"RollingUpdatePolicy": ROLLING, **_blue_green("ALL_AT_ONCE")},
            "Only one of BlueGreenUpdatePolicy and RollingUpdatePolicy",
        ),
        (
            {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "absent"}]}},
            r"Could not find alarm\(s\) absent",
        ),
        (
            {
                "BlueGreenUpdatePolicy": {
                    **LONG,
                    "TerminationWaitInSeconds": 600,
                    "MaximumExecutionTimeoutInSeconds": 660,
                }
            },
            "MaximumExecutionTimeoutInSeconds 660 must exceed the total",
        ),
        (
            {"BlueGreenUpdatePolicy": {**LONG, "TerminationWaitInSeconds": 3601}},
            "at most 3600 are allowed",
        ),
    ],
)
def test_deployments(account: HostedAccount, deployment: Request, message: str) -> None:
    account.config("one", account.model("one"), count=4)
    with pytest.raises(ClientError, match=message):
        account.client("sagemaker").create_endpoint(
            EndpointName="support", EndpointConfigName="one", DeploymentConfig=deployment
        )
    assert account.client("sagemaker").list_endpoints()["Endpoints"] == []


def test_more_instances_than_the_quota(account: HostedAccount) -> None:
    account.emulator.hosting.context.faults.quotas["ml.g5.xlarge"] = 0
    account.config("one", account.model("one"))
    with pytest.raises(ClientError, match=r"ml.g5.xlarge for endpoint usage' is 0") as caught:
        account.client("sagemaker").create_endpoint(
            EndpointName="support", EndpointConfigName="one"
        )
    assert caught.value.response["Error"]["Code"] == "ResourceLimitExceeded"
