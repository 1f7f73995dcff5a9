"""Tests of the life cycle of a throughput: create, wait, update, replace, delete, and errors."""

from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY

from stacks.handlers.provisioned_throughput import check, start
from tests.infra.handlers.conftest import NOW, Stub

ARN = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghijkl"
NEW = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/mnopqrstuvwx"
MODEL = "arn:aws:bedrock:us-east-1:123456789012:custom-model/amazon.nova-lite-v1:0/abcdefghijkl"
WANTED = {
    "Name": "temper-dev-assistant",
    "Model": MODEL,
    "Units": "2",
    "Commitment": "",
    "AcknowledgeCommitment": "false",
    "Generation": "1",
    "Tags": {"TemperPrefix": "temper-dev", "Owner": "a"},
}


def _event(kind: str, **changes: Any) -> dict[str, Any]:
    return {
        "RequestType": kind,
        "RequestId": "request-1",
        "PhysicalResourceId": ARN,
        "ResourceProperties": WANTED,
        "OldResourceProperties": WANTED,
        **changes,
    }


def _found(status: str = "InService", **more: Any) -> dict[str, Any]:
    return {
        "modelUnits": 2,
        "desiredModelUnits": 2,
        "provisionedModelName": "temper-dev-assistant-1",
        "provisionedModelArn": ARN,
        "modelArn": MODEL,
        "desiredModelArn": MODEL,
        "foundationModelArn": "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0",
        "status": status,
        "creationTime": NOW,
        "lastModifiedTime": NOW,
        **more,
    }


COMMITTED = _found(commitmentDuration="OneMonth", commitmentExpirationTime=NOW + timedelta(days=20))


def test_create_sends_what_bedrock_takes(stub: Stub) -> None:
    bedrock, api = stub("bedrock")
    expected = {
        "clientRequestToken": ANY,
        "provisionedModelName": ANY,
        "modelId": MODEL,
        "modelUnits": 2,
        "tags": [{"key": "Owner", "value": "a"}, {"key": "TemperPrefix", "value": "temper-dev"}],
    }
    api.add_response("create_provisioned_model_throughput", {"provisionedModelArn": ARN}, expected)
    assert start(_event("Create"), bedrock=bedrock) == {"PhysicalResourceId": ARN}


def test_a_repeated_create_uses_the_same_token_and_name(stub: Stub) -> None:
    bedrock, api = stub("bedrock")
    seen: list[dict[str, Any]] = []
    bedrock.meta.events.register(
        "provide-client-params.bedrock.CreateProvisionedModelThroughput",
        lambda params, **_: seen.append(params),
    )
    for _ in range(2):
        api.add_response("create_provisioned_model_throughput", {"provisionedModelArn": ARN})
        start(_event("Create"), bedrock=bedrock)
    assert seen[0] == seen[1]


def test_an_unacknowledged_commitment_is_refused_before_any_call(stub: Stub) -> None:
    bedrock, _ = stub("bedrock")
    properties = {**WANTED, "Commitment": "SixMonths"}
    with pytest.raises(ValueError, match="SixMonths without an acknowledgement"):
        start(_event("Create", ResourceProperties=properties), bedrock=bedrock)


def test_an_acknowledged_commitment_is_made(stub: Stub) -> None:
    bedrock, api = stub("bedrock")
    properties = {**WANTED, "Commitment": "OneMonth", "AcknowledgeCommitment": "true"}
    expected = {
        "clientRequestToken": ANY,
        "provisionedModelName": ANY,
        "modelId": MODEL,
        "modelUnits": 2,
        "tags": ANY,
        "commitmentDuration": "OneMonth",
    }
    api.add_response("create_provisioned_model_throughput", {"provisionedModelArn": ARN}, expected)
    start(_event("Create", ResourceProperties=properties), bedrock=bedrock)


@pytest.mark.parametrize(("status", "done"), [("Creating", False), ("InService", True)])
def test_creation_is_awaited(stub: Stub, status: str, done: bool) -> None:
    bedrock, api = stub("bedrock")
    api.add_response("get_provisioned_model_throughput", _found(status))
    assert check(_event("Create"), bedrock=bedrock)["IsComplete"] is done


def test_a_failed_creation_says_why(stub: Stub) -> None:
    bedrock, api = stub("bedrock")
    api.add_response(
        "get_provisioned_model_throughput", _found("Failed", failureMessage="no capacity")
    )
    with pytest.raises(RuntimeError, match="no capacity"):
        check(_event("Create"), bedrock=bedrock)


def test_another_model_is_an_update_in_place(stub: Stub) -> None:
    bedrock, api = stub("bedrock")
    other = MODEL.replace("abcdefghijkl", "mnopqrstuvwx")
    api.add_response("get_provisioned_model_throughput", _found())
    wanted = {"provisionedModelId": ARN, "desiredModelId": other}
    api.add_response("update_provisioned_model_throughput", {}, wanted)
    event = _event("Update", ResourceProperties={**WANTED, "Model": other})
    assert start(event, bedrock=bedrock) == {"PhysicalResourceId": ARN}


@pytest.mark.parametrize(
    "change", [{"Units": "3"}, {"Name": "temper-dev-other"}, {"Generation": "2"}]
)
def test_what_cannot_change_is_replaced(stub: Stub, change: dict[str, str]) -> None:
    bedrock, api = stub("bedrock")
    api.add_response("create_provisioned_model_throughput", {"provisionedModelArn": NEW})
    event = _event("Update", ResourceProperties={**WANTED, **change})
    assert start(event, bedrock=bedrock) == {"PhysicalResourceId": NEW}


def test_nothing_changed_calls_nothing(stub: Stub) -> None:
    bedrock, _ = stub("bedrock")
    assert start(_event("Update"), bedrock=bedrock) == {"PhysicalResourceId": ARN}


def test_delete_deletes_and_waits_until_it_is_gone(stub: Stub) -> None:
    bedrock, api = stub("bedrock")
    api.add_response("get_provisioned_model_throughput", _found())
    api.add_response("delete_provisioned_model_throughput", {}, {"provisionedModelId": ARN})
    start(_event("Delete"), bedrock=bedrock)
    api.add_client_error("get_provisioned_model_throughput", "ResourceNotFoundException")
    assert check(_event("Delete"), bedrock=bedrock) == {"IsComplete": True}


def test_delete_while_creating_waits_and_deletes_then(stub: Stub) -> None:
    bedrock, api = stub("bedrock")
    api.add_response("get_provisioned_model_throughput", _found("Creating"))
    api.add_client_error("delete_provisioned_model_throughput", "ConflictException")
    start(_event("Delete"), bedrock=bedrock)
    # Still being created: asked, refused, asked again.
    api.add_response("get_provisioned_model_throughput", _found("Creating"))
    api.add_response("get_provisioned_model_throughput", _found("Creating"))
    api.add_client_error("delete_provisioned_model_throughput", "ConflictException")
    api.add_response("get_provisioned_model_throughput", _found("Creating"))
    assert check(_event("Delete"), bedrock=bedrock) == {"IsComplete": False}
    # In service now: it goes.
    api.add_response("get_provisioned_model_throughput", _found())
    api.add_response("get_provisioned_model_throughput", _found())
    api.add_response("delete_provisioned_model_throughput", {})
    api.add_client_error("get_provisioned_model_throughput", "ResourceNotFoundException")
    assert check(_event("Delete"), bedrock=bedrock) == {"IsComplete": True}


def test_delete_of_what_is_gone_succeeds(stub: Stub) -> None:
    bedrock, api = stub("bedrock")
    api.add_client_error("get_provisioned_model_throughput", "ResourceNotFoundException")
    start(_event("Delete"), bedrock=bedrock)


def test_delete_after_a_failed_create_calls_nothing(stub: Stub) -> None:
    bedrock, _ = stub("bedrock")
    event = _event(
        "Delete", PhysicalResourceId="AWSCDK::CustomResourceProviderFramework::CREATE_FAILED"
    )
    start(event, bedrock=bedrock)
    assert check(event, bedrock=bedrock) == {"IsComplete": True}


def test_a_live_commitment_is_left_and_does_not_wedge_the_stack(
    stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    bedrock, api = stub("bedrock")
    api.add_response("get_provisioned_model_throughput", COMMITTED)
    start(_event("Delete"), bedrock=bedrock)
    api.add_response("get_provisioned_model_throughput", COMMITTED)
    assert check(_event("Delete"), bedrock=bedrock) == {"IsComplete": True}
    assert "billed until then" in caplog.text


def test_throttled_deletion_is_asked_again(stub: Stub) -> None:
    bedrock, api = stub("bedrock")
    api.add_response("get_provisioned_model_throughput", _found())
    api.add_client_error("delete_provisioned_model_throughput", "ThrottlingException")
    start(_event("Delete"), bedrock=bedrock)


def test_a_denied_deletion_is_an_error(stub: Stub) -> None:
    bedrock, api = stub("bedrock")
    api.add_response("get_provisioned_model_throughput", _found())
    api.add_client_error("delete_provisioned_model_throughput", "AccessDeniedException")
    with pytest.raises(ClientError, match="AccessDenied"):
        start(_event("Delete"), bedrock=bedrock)
