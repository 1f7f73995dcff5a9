"""The log group of a cluster gets its key and retention period, whoever creates it first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from stacks.handlers.cluster_log_group import apply
from tests.infra.handlers.conftest import Stub

GROUP = "/aws/sagemaker/Clusters/temper-dev-cluster/abcdefghijkl"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield boto3.client("logs", region_name="us-east-1")


def _event(kind: str, days: str = "90") -> dict[str, Any]:
    properties = {"LogGroupName": GROUP, "KmsKeyArn": KEY, "Days": days}
    return {"RequestType": kind, "PhysicalResourceId": GROUP, "ResourceProperties": properties}


def _groups(logs: Any) -> list[tuple[str, str | None, int | None]]:
    described = logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"]
    return [(g["logGroupName"], g.get("kmsKeyId"), g.get("retentionInDays")) for g in described]


def test_a_missing_group_is_created(logs: Any) -> None:
    assert apply(_event("Create"), logs=logs) == {"PhysicalResourceId": GROUP}
    assert _groups(logs) == [(GROUP, KEY, 90)]


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_a_group_that_exists_gets_both(stub: Stub, kind: str) -> None:
    """HyperPod was faster, or a setting changed. Moto lacks AssociateKmsKey."""
    logs, api = stub("logs")
    api.add_client_error("create_log_group", "ResourceAlreadyExistsException")
    api.add_response("associate_kms_key", {}, {"logGroupName": GROUP, "kmsKeyId": KEY})
    api.add_response("put_retention_policy", {}, {"logGroupName": GROUP, "retentionInDays": 30})
    assert apply(_event(kind, days="30"), logs=logs) == {"PhysicalResourceId": GROUP}


def test_the_logs_outlive_the_cluster(logs: Any) -> None:
    apply(_event("Create"), logs=logs)
    assert apply(_event("Delete"), logs=logs) == {"PhysicalResourceId": GROUP}
    assert _groups(logs) == [(GROUP, KEY, 90)]
