"""Tests that an event about a model package names the model's semantic version.

The event is the one of AWS's page, with its names replaced:
docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
"""

from collections.abc import Callable
from typing import Any

import pytest

from stacks.handlers.event_message import message, subject
from stacks.handlers.event_model import with_model_version
from stacks.handlers.event_scope import EventScope
from stacks.handlers.monitor.scope import Scope
from tests.infra.handlers.conftest import Stub

ARN = "arn:aws:sagemaker:us-east-2:123456789012:model-package/temper-dev-models/2"
PACKAGE: dict[str, Any] = {
    "version": "0",
    "id": "844e2571-85d4-695f-b930-0153b71dcb42",
    "detail-type": "SageMaker Model Package State Change",
    "source": "aws.sagemaker",
    "account": "123456789012",
    "time": "2021-02-24T17:00:14Z",
    "region": "us-east-2",
    "resources": [ARN],
    "detail": {
        "ModelPackageGroupName": "temper-dev-models",
        "ModelPackageVersion": 2,
        "ModelPackageArn": ARN,
        "CreationTime": "2021-02-24T17:00:14Z",
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        "CertifyForMarketplace": False,
        "ModelApprovalStatus": "Rejected",
        "MetadataProperties": {"GeneratedBy": "support/a"},
        "LastModifiedTime": "2021-02-24T17:00:14Z",
    },
}
OURS = {"temper-name": "support", "temper-version": "1.4.0"}
DEV = EventScope(Scope("dev"), "temper-dev", ())


@pytest.fixture
def described(stub: Stub) -> Callable[[dict[str, str]], Callable[[str], Any]]:
    """Return a factory of clients whose one answer is a package with some metadata."""

    def make(properties: dict[str, str]) -> Callable[[str], Any]:
        client, stubber = stub("sagemaker")
        package = {
            "ModelPackageName": "temper-dev-models",
            "ModelPackageArn": ARN,
            "CreationTime": 0,
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": []},
            "CustomerMetadataProperties": properties,
        }
        stubber.add_response("describe_model_package", package, {"ModelPackageName": ARN})
        return {"sagemaker": client}.__getitem__

    return make


Described = Callable[[dict[str, str]], Callable[[str], Any]]


def test_a_message_names_the_version_and_its_approval(described: Described) -> None:
    event = with_model_version(PACKAGE, described(OURS))
    assert subject(event) == "Rejected: support@1.4.0"
    text = message(event)
    assert "Which:   support@1.4.0" in text and "State:   Rejected" in text and ARN in text


def test_metadata_in_the_event_are_read_first() -> None:
    event = {
        **PACKAGE,
        "detail": {**PACKAGE["detail"], "CustomerMetadataProperties": OURS},
    }
    assert subject(with_model_version(event, _no_client)) == "Rejected: support@1.4.0"


def _no_client(service: str) -> Any:
    raise AssertionError(f"{service} was called")


def test_a_package_of_another_tool_is_named_by_its_arn(described: Described) -> None:
    event = with_model_version(PACKAGE, described({"owner": "another tool"}))
    assert subject(event) == f"Rejected: {ARN}"


def test_a_package_that_cannot_be_read_is_named_by_its_arn(stub: Stub) -> None:
    client, stubber = stub("sagemaker")
    stubber.add_client_error("describe_model_package", "AccessDeniedException")
    event = with_model_version(PACKAGE, {"sagemaker": client}.__getitem__)
    assert subject(event) == f"Rejected: {ARN}"


def test_a_failed_package_is_reported(described: Described) -> None:
    detail = {**PACKAGE["detail"], "ModelPackageStatus": "Failed"}
    event = with_model_version({**PACKAGE, "detail": detail}, described(OURS))
    assert subject(event) == "Failed: support@1.4.0"


def test_other_events_are_left_as_they_are() -> None:
    event = {**PACKAGE, "detail-type": "SageMaker Model State Change"}
    assert with_model_version(event, _no_client) is event


def test_the_group_of_the_environment_concerns_it_without_tags(stub: Stub) -> None:
    assert DEV.covers(PACKAGE, _no_client)
    others = {**PACKAGE["detail"], "ModelPackageGroupName": "temper-prod-models"}
    client, stubber = stub("sagemaker")
    stubber.add_response("list_tags", {"Tags": []}, {"ResourceArn": ARN})
    assert not DEV.covers({**PACKAGE, "detail": others}, {"sagemaker": client}.__getitem__)
