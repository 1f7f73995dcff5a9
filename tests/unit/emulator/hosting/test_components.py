"""Emulated inference components: copies, adapters, updates, zero copies, placement."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.unit.emulator.conftest import IMAGE, ROLE, HostedAccount

Request = dict[str, Any]
COMPUTE = {"NumberOfAcceleratorDevicesRequired": 1, "MinMemoryRequiredInMb": 4096}


def make_endpoint(account: HostedAccount, least: int = 0, most: int = 2, **changes: Any) -> None:
    scaling = {"Status": "ENABLED", "MinInstanceCount": least, "MaxInstanceCount": most}
    main = {
        "VariantName": "main",
        "InstanceType": "ml.g5.xlarge",
        "InitialInstanceCount": 1,
        "ManagedInstanceScaling": scaling,
        **changes,
    }
    account.config("components", ProductionVariants=[main], ExecutionRoleArn=ROLE)
    account.deploy("components")


def _request(model: str, name: str = "base", copies: int = 1, **changes: Any) -> Request:
    return {
        "InferenceComponentName": name,
        "EndpointName": "support",
        "VariantName": "main",
        "Specification": {"ModelName": model, "ComputeResourceRequirements": COMPUTE, **changes},
        "RuntimeConfig": {"CopyCount": copies},
    }


def create(account: HostedAccount, request: Request, status: str = "InService") -> Request:
    account.client("sagemaker").create_inference_component(**request)
    return account.component_until(status, request["InferenceComponentName"])


def _adapter(account: HostedAccount, name: str, **files: str) -> Request:
    address = account.put_archive(f"{name}.tar.gz", **({"answer": name} | files))
    return {
        "InferenceComponentName": name,
        "EndpointName": "support",
        "Specification": {
            "BaseInferenceComponentName": "base",
            "Container": {"ArtifactUrl": address},
        },
    }


def _ask(account: HostedAccount, name: str = "base") -> str:
    return account.ask("", InferenceComponentName=name)


def test_adapters_answer_through_their_base(account: HostedAccount) -> None:
    make_endpoint(account)
    described = create(account, _request(account.model("one")))
    assert described["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1}
    sagemaker = account.client("sagemaker")
    for name in ("legal", "sales"):
        shown = create(account, _adapter(account, name))
        assert shown["VariantName"] == "main" and "RuntimeConfig" not in shown
    assert [_ask(account, name) for name in ("base", "legal", "sales")] == ["one", "legal", "sales"]
    listed = sagemaker.list_inference_components(EndpointNameEquals="support", SortBy="Name")
    names = [found["InferenceComponentName"] for found in listed["InferenceComponents"]]
    assert names == ["sales", "legal", "base"]
    with pytest.raises(ClientError, match="has adapters: delete legal, sales first"):
        sagemaker.delete_inference_component(InferenceComponentName="base")
    with pytest.raises(ClientError, match=r"with inference component\(s\) base, legal, sales"):
        sagemaker.delete_endpoint(EndpointName="support")
    sagemaker.delete_inference_component(InferenceComponentName="legal")
    account.advance(60)
    with pytest.raises(ClientError, match="Inference Component legal of support not found"):
        _ask(account, "legal")


def test_an_adapter_that_the_container_refuses_fails_with_its_words(
    account: HostedAccount,
) -> None:
    make_endpoint(account)
    create(account, _request(account.model("one")))
    described = create(account, _adapter(account, "wide", crash="x"), "Failed")
    assert "the rank of the adapter is 64, at most 16 is allowed" in described["FailureReason"]
    assert _ask(account) == "one"


def test_a_component_without_copies_has_no_capacity(account: HostedAccount) -> None:
    make_endpoint(account)
    create(account, _request(account.model("one")))
    sagemaker = account.client("sagemaker")
    sagemaker.update_inference_component_runtime_config(
        InferenceComponentName="base", DesiredRuntimeConfig={"CopyCount": 0}
    )
    described = account.component_until("InService")
    assert described["RuntimeConfig"]["CurrentCopyCount"] == 0
    (main,) = account.describe()["ProductionVariants"]
    assert main["CurrentInstanceCount"] == 0, "managed instances go with the copies"
    with pytest.raises(ClientError, match="has no capacity to process this request") as caught:
        _ask(account)
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    sagemaker.update_inference_component_runtime_config(
        InferenceComponentName="base", DesiredRuntimeConfig={"CopyCount": 2}
    )
    account.component_until("InService")
    assert account.describe()["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert _ask(account) == "one"


def test_more_copies_than_the_instances_hold(account: HostedAccount) -> None:
    make_endpoint(account)
    described = create(account, _request(account.model("one"), copies=3), "Failed")
    assert "MaxInstanceCount does not allow more instances" in described["FailureReason"]


def test_an_update_rolls_to_another_model(account: HostedAccount) -> None:
    make_endpoint(account)
    create(account, _request(account.model("one")))
    create(account, _adapter(account, "legal"))
    account.client("sagemaker").update_inference_component(
        InferenceComponentName="base",
        Specification={"ModelName": account.model("two"), "ComputeResourceRequirements": COMPUTE},
        DeploymentConfig={
            "RollingUpdatePolicy": {
                "MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1},
                "WaitIntervalInSeconds": 60,
            }
        },
    )
    assert _ask(account) == "one"
    described = account.component_until("InService")
    assert described["Specification"]["ModelName"] == "two"
    assert [_ask(account), _ask(account, "legal")] == ["two", "legal"]


def test_an_update_that_cannot_start_is_rolled_back(account: HostedAccount) -> None:
    make_endpoint(account)
    create(account, _request(account.model("one")))
    bad = account.model("bad", crash="x")
    account.client("sagemaker").update_inference_component(
        InferenceComponentName="base",
        Specification={"ModelName": bad, "ComputeResourceRequirements": COMPUTE},
    )
    described = account.component_until("InService")
    assert described["Specification"]["ModelName"] == "one"
    assert "ping health check" in described["FailureReason"]
    assert _ask(account) == "one"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"EndpointName": "absent"}, "Could not find endpoint"),
        ({"VariantName": "other"}, "has no variant other"),
        ({"VariantName": None}, "VariantName is required"),
        ({"RuntimeConfig": None}, "RuntimeConfig is required"),
        ({"Specification": {"ModelName": "one"}}, "ComputeResourceRequirements is required"),
        ({"Specification": {"ComputeResourceRequirements": COMPUTE}}, "Exactly one of ModelName"),
        (
            {
                "Specification": {
                    "Container": {"Image": IMAGE, "ArtifactUrl": "s3://models/absent.tar.gz"},
                    "ComputeResourceRequirements": COMPUTE,
                }
            },
            "Could not find model data",
        ),
        (
            {
                "Specification": {
                    "ModelName": "one",
                    "ComputeResourceRequirements": {
                        **COMPUTE,
                        "NumberOfAcceleratorDevicesRequired": 2,
                    },
                }
            },
            "ml.g5.xlarge has fewer",
        ),
        (
            {"Specification": {"BaseInferenceComponentName": "b", "ModelName": "one"}},
            "ModelName cannot be specified for an adapter",
        ),
    ],
)
def test_requests_that_break_a_rule(account: HostedAccount, changes: Request, message: str) -> None:
    make_endpoint(account)
    request = {**_request(account.model("one")), **changes}
    request = {key: value for key, value in request.items() if value is not None}
    with pytest.raises(ClientError, match=message):
        account.client("sagemaker").create_inference_component(**request)


def test_an_endpoint_of_models_takes_no_components(account: HostedAccount) -> None:
    account.deploy(account.config("one", account.model("one")))
    with pytest.raises(ClientError, match="runs models, not inference components"):
        account.client("sagemaker").create_inference_component(**_request("one"))


def test_a_component_must_be_named(account: HostedAccount) -> None:
    make_endpoint(account)
    with pytest.raises(ClientError, match="Inference Component Name header is required"):
        account.ask()
