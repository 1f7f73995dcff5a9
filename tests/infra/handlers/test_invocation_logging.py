"""Tests that the logging setting is made, and removed only if it belongs to the stack."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from stacks.handlers.invocation_logging import apply
from tests.infra.handlers.conftest import Stub

ROLE = "arn:aws:iam::123456789012:role/writer"


def _event(kind: str) -> dict[str, Any]:
    return {
        "RequestType": kind,
        "PhysicalResourceId": "invocation-logging:ours",
        "ResourceProperties": {"LogGroupName": "ours", "RoleArn": ROLE},
    }


def _current(group: str) -> dict[str, Any]:
    return {"loggingConfig": {"cloudWatchConfig": {"logGroupName": group, "roleArn": ROLE}}}


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_it_is_set(stub: Stub, kind: str) -> None:
    bedrock, api = stub("bedrock")
    wanted = {
        "loggingConfig": {
            "cloudWatchConfig": {"logGroupName": "ours", "roleArn": ROLE},
            "textDataDeliveryEnabled": True,
            "imageDataDeliveryEnabled": False,
            "embeddingDataDeliveryEnabled": False,
        }
    }
    api.add_response("put_model_invocation_logging_configuration", {}, wanted)
    assert apply(_event(kind), bedrock=bedrock) == {"PhysicalResourceId": "invocation-logging:ours"}


def test_ours_is_taken_away(stub: Stub) -> None:
    bedrock, api = stub("bedrock")
    api.add_response("get_model_invocation_logging_configuration", _current("ours"))
    api.add_response("delete_model_invocation_logging_configuration", {})
    apply(_event("Delete"), bedrock=bedrock)


@pytest.mark.parametrize("current", [_current("theirs"), {}])
def test_another_is_left(stub: Stub, current: dict[str, Any]) -> None:
    bedrock, api = stub("bedrock")
    api.add_response("get_model_invocation_logging_configuration", current)
    apply(_event("Delete"), bedrock=bedrock)


def test_a_role_that_bedrock_cannot_use_yet_fails_the_deployment(stub: Stub) -> None:
    bedrock, api = stub("bedrock")
    api.add_client_error("put_model_invocation_logging_configuration", "ValidationException")
    with pytest.raises(ClientError, match="Validation"):
        apply(_event("Create"), bedrock=bedrock)
