"""Tests that idle or scheduled throughput is removed, but not with a commitment or foreign."""

from datetime import timedelta
from typing import Any

import pytest
from botocore.stub import ANY

from stacks.handlers.undeploy_throughput import undeploy
from tests.infra.handlers.conftest import NOW, Stub

BASE = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/"


def _summary(name: str, letter: str, status: str = "InService", **more: Any) -> dict[str, Any]:
    return {
        "provisionedModelName": name,
        "provisionedModelArn": BASE + letter * 12,
        "modelArn": "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0",
        "desiredModelArn": "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0",
        "foundationModelArn": "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0",
        "modelUnits": 1,
        "desiredModelUnits": 1,
        "status": status,
        "creationTime": NOW - timedelta(days=2),
        "lastModifiedTime": NOW,
        **more,
    }


def _calls(number: float) -> dict[str, Any]:
    values = [number] if number else []
    return {
        "MetricDataResults": [
            {
                "Id": "calls",
                "StatusCode": "Complete",
                "Timestamps": [NOW] * len(values),
                "Values": values,
            }
        ]
    }


class Account:
    """Stubbed Bedrock and CloudWatch, and the call under test."""

    def __init__(self, stub: Stub) -> None:
        self.bedrock, self.api = stub("bedrock")
        self.cloudwatch, self.metrics = stub("cloudwatch")

    def lists(self, *found: dict[str, Any]) -> None:
        self.api.add_response(
            "list_provisioned_model_throughputs", {"provisionedModelSummaries": list(found)}
        )

    def run(self, only: str, idle: int | None = None) -> dict[str, list[str]]:
        value = (
            ANY
            if idle is None
            else [
                {
                    "MetricName": "bedrock-idle-throughput",
                    "Value": idle,
                    "Unit": "Count",
                    "Timestamp": NOW,
                }
            ]
        )
        self.metrics.add_response(
            "put_metric_data", {}, {"Namespace": "Temper/x", "MetricData": value}
        )
        return undeploy(
            only=only,
            bedrock=self.bedrock,
            cloudwatch=self.cloudwatch,
            prefix="temper-dev",
            namespace="Temper/x",
            idle_hours=6,
            now=NOW,
        )


def test_the_schedule_removes_what_is_called_too(stub: Stub) -> None:
    account = Account(stub)
    account.lists(_summary("temper-dev-a-1", "a"))
    account.metrics.add_response("get_metric_data", _calls(100))
    account.api.add_response(
        "delete_provisioned_model_throughput", {}, {"provisionedModelId": BASE + "a" * 12}
    )
    assert account.run("all")["deleted"] == [BASE + "a" * 12]


def test_idle_removes_only_what_nobody_calls(stub: Stub) -> None:
    account = Account(stub)
    account.lists(_summary("temper-dev-a-1", "a"), _summary("temper-dev-b-1", "b"))
    account.metrics.add_response("get_metric_data", _calls(100))
    account.metrics.add_response("get_metric_data", _calls(0))
    account.api.add_response(
        "delete_provisioned_model_throughput", {}, {"provisionedModelId": BASE + "b" * 12}
    )
    outcome = account.run("idle", idle=0)
    assert outcome == {"deleted": [BASE + "b" * 12], "kept": [BASE + "a" * 12], "failed": []}


def test_what_is_younger_than_the_hours_is_not_idle(stub: Stub) -> None:
    account = Account(stub)
    account.lists(_summary("temper-dev-a-1", "a", creationTime=NOW - timedelta(hours=1)))
    assert account.run("idle", idle=0)["kept"] == [BASE + "a" * 12]


def test_a_commitment_stays_and_its_idleness_is_reported(stub: Stub) -> None:
    account = Account(stub)
    account.lists(_summary("temper-dev-a-1", "a", commitmentDuration="OneMonth"))
    account.metrics.add_response("get_metric_data", _calls(0))
    assert account.run("idle", idle=1)["kept"] == [BASE + "a" * 12]


def test_what_is_being_created_stays_for_the_next_time(stub: Stub) -> None:
    account = Account(stub)
    account.lists(_summary("temper-dev-a-1", "a", status="Creating", creationTime=NOW))
    assert account.run("all")["kept"] == [BASE + "a" * 12]


def test_another_environment_is_left_alone(stub: Stub) -> None:
    account = Account(stub)
    account.lists(_summary("temper-development-a", "a"), _summary("not-temper-dev-a", "b"))
    assert account.run("all") == {"deleted": [], "kept": [], "failed": []}


def test_one_that_fails_does_not_keep_the_others(stub: Stub) -> None:
    account = Account(stub)
    account.lists(_summary("temper-dev-a-1", "a"), _summary("temper-dev-b-1", "b"))
    account.metrics.add_response("get_metric_data", _calls(0))
    account.api.add_client_error("delete_provisioned_model_throughput", "ThrottlingException")
    account.metrics.add_response("get_metric_data", _calls(0))
    account.api.add_response("delete_provisioned_model_throughput", {})
    with pytest.raises(RuntimeError, match=r"model/a{12}"):
        account.run("all")


def test_a_second_delivery_finds_it_gone_and_is_content(stub: Stub) -> None:
    account = Account(stub)
    account.lists(_summary("temper-dev-a-1", "a"))
    account.metrics.add_response("get_metric_data", _calls(0))
    account.api.add_client_error("delete_provisioned_model_throughput", "ResourceNotFoundException")
    assert account.run("all")["deleted"] == [BASE + "a" * 12]


def test_a_mistyped_event_says_so(stub: Stub) -> None:
    bedrock, _ = stub("bedrock")
    cloudwatch, _ = stub("cloudwatch")
    with pytest.raises(ValueError, match="'some' is neither"):
        undeploy(
            only="some",
            bedrock=bedrock,
            cloudwatch=cloudwatch,
            prefix="p",
            namespace="n",
            idle_hours=1,
            now=NOW,
        )
