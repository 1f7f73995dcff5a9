"""Tests that an event is published once, also after duplicates and failed publications."""

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY
from moto import mock_aws

from stacks.handlers.publish_event import (
    fingerprint,
    message,
    publish_once,
    runbook_for,
    subject,
)
from tests.infra.handlers.conftest import Stub

FAILED = {
    "id": "one",
    "source": "aws.sagemaker",
    "detail-type": "SageMaker Training Job State Change",
    "time": "2026-11-20T12:00:00Z",
    "region": "us-east-1",
    "resources": ["arn:aws:sagemaker:us-east-1:123456789012:training-job/support-lora"],
    "detail": {
        "TrainingJobName": "support-lora",
        "TrainingJobStatus": "Failed",
        "FailureReason": "AlgorithmError: out of memory",
    },
}
AGAIN = {**FAILED, "id": "two", "time": "2026-11-20T12:00:09Z"}
SETTINGS: dict[str, Any] = {
    "table": "told",
    "topic": "arn:aws:sns:us-east-1:123456789012:events",
    "namespace": "Temper/temper-dev",
    "now": 1_800_000_000,
}


@pytest.fixture
def account() -> Any:
    """Emulated account with a table, and a topic with a queue."""
    with mock_aws():
        region = {"region_name": "us-east-1"}
        dynamodb = boto3.client("dynamodb", **region)
        sns, sqs = boto3.client("sns", **region), boto3.client("sqs", **region)
        dynamodb.create_table(
            TableName="told",
            KeySchema=[{"AttributeName": "fingerprint", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "fingerprint", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        topic = sns.create_topic(Name="events")["TopicArn"]
        queue = sqs.create_queue(QueueName="read")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["Attributes"]["QueueArn"])
        yield {"dynamodb": dynamodb, "sns": sns, "sqs": sqs, "queue": queue, "topic": topic}


def _tell(account: dict[str, Any], event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    settings = {**SETTINGS, "topic": account["topic"], **changes}
    return publish_once(event, dynamodb=account["dynamodb"], sns=account["sns"], **settings)


def _read(account: dict[str, Any]) -> list[str]:
    answer = account["sqs"].receive_message(QueueUrl=account["queue"], MaxNumberOfMessages=10)
    return [json.loads(m["Body"])["Message"] for m in answer.get("Messages", [])]


def test_a_duplicate_is_told_once(account: dict[str, Any]) -> None:
    assert _tell(account, FAILED)["published"] is True
    assert _tell(account, AGAIN)["published"] is False
    [told] = _read(account)
    assert "support-lora" in told
    assert "AlgorithmError: out of memory" in told
    assert "docs/runbooks/training-job-failed.md" in told


def test_another_job_is_another_message(account: dict[str, Any]) -> None:
    other = {**FAILED, "detail": {**FAILED["detail"], "TrainingJobName": "other"}}  # type: ignore[dict-item]
    assert _tell(account, FAILED)["published"] is True
    assert _tell(account, other)["published"] is True


def test_the_same_thing_later_is_told_again(account: dict[str, Any]) -> None:
    assert _tell(account, FAILED)["published"] is True
    assert _tell(account, AGAIN, now=SETTINGS["now"] + 14 * 60)["published"] is False
    assert _tell(account, AGAIN, now=SETTINGS["now"] + 16 * 60)["published"] is True


def _fault(minutes: int) -> dict[str, Any]:
    detail = {"job": "a", "fault": "training-job-stuck", "reason": f"no loss for {minutes} minutes"}
    return {"source": "temper.x", "detail-type": "Temper Fault", "detail": detail}


def test_a_fault_that_lasts_is_told_once_in_hours(account: dict[str, Any]) -> None:
    now = SETTINGS["now"]
    assert _tell(account, _fault(30))["published"] is True
    assert _tell(account, _fault(35), now=now + 300)["published"] is False
    assert _tell(account, _fault(395), now=now + 7 * 3600)["published"] is True


def _key_event(key: str, event_id: str) -> dict[str, Any]:
    detail = {"eventName": "DisableKey", "eventID": event_id, "requestParameters": {"keyId": key}}
    return {"source": "aws.kms", "detail-type": "AWS API Call via CloudTrail", "detail": detail}


def test_two_keys_are_two_messages(account: dict[str, Any]) -> None:
    assert _tell(account, _key_event("one", "1"))["published"] is True
    assert _tell(account, _key_event("one", "1"))["published"] is False
    assert _tell(account, _key_event("two", "2"))["published"] is True
    assert "DisableKey: two" in subject(_key_event("two", "2"))


def test_cluster_events_that_differ_are_all_told(account: dict[str, Any]) -> None:
    def event(text: str) -> dict[str, Any]:
        detail = {"ClusterName": "c", "EventDetails": {"EventLevel": "Warn", "Description": text}}
        return {
            "source": "aws.sagemaker",
            "detail-type": "SageMaker HyperPod Cluster Event",
            "detail": detail,
        }

    assert _tell(account, event("replacing a node"))["published"] is True
    assert _tell(account, event("another thing"))["published"] is True


def _node_health(**summary: str) -> dict[str, Any]:
    """Return a node health event with the fields of the user guide.

    docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
    """
    detail = {"ClusterName": "c", "InstanceId": "i-0123456789abcdef0", "HealthSummary": summary}
    kind = "SageMaker HyperPod Cluster Node Health Event"
    return {"source": "aws.sagemaker", "detail-type": kind, "detail": detail}


def _cluster_event(level: str, description: str, **instance: str) -> dict[str, Any]:
    """Return a cluster event with the fields of the events reference.

    docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-cluster-events-reference.html
    """
    details = {
        "ClusterName": "c",
        "InstanceGroupName": "workers",
        "InstanceId": "i-0123456789abcdef0",
        "ResourceType": "Instance",
        "EventLevel": level,
        "Description": description,
        "EventDetails": {"EventMetadata": {"Instance": instance}},
    }
    kind = "SageMaker HyperPod Cluster Event"
    return {"source": "aws.sagemaker", "detail-type": kind, "detail": {"EventDetails": details}}


def test_a_healthy_node_pages_nobody() -> None:
    assert runbook_for(_node_health(HealthStatus="Healthy")) is None


def test_an_unhealthy_node_is_named_with_its_reason() -> None:
    event = _node_health(
        HealthStatus="Unhealthy", HealthStatusReason="XidHardwareFailure", RepairAction="Replace"
    )
    assert runbook_for(event) == "hyperpod-node-unhealthy"
    assert subject(event) == "Unhealthy: c"
    assert "Node:    i-0123456789abcdef0" in message(event)
    assert "Why:     XidHardwareFailure" in message(event)


def test_a_lack_of_capacity_pages_with_its_reason() -> None:
    event = _cluster_event("Error", "Instance creation failed", FailureMessage="no capacity for p5")
    assert runbook_for(event) == "hyperpod-cluster-failed"
    assert "Why:     no capacity for p5" in message(event)


@pytest.mark.parametrize(
    ("level", "description", "page"),
    [
        ("Info", "Replacing the root volume of the instance", None),
        ("Info", "Instance replacement started", "hyperpod-node-replaced"),
        ("Info", "Scaling the instance group", None),
        ("Error", "The update of the cluster is rolled back", "hyperpod-cluster-failed"),
    ],
)
def test_cluster_events_page_by_level_and_kind(
    level: str, description: str, page: str | None
) -> None:
    assert runbook_for(_cluster_event(level, description)) == page


def test_a_failed_publication_is_not_remembered(account: dict[str, Any]) -> None:
    missing = "arn:aws:sns:us-east-1:123456789012:not-there"
    with pytest.raises(ClientError, match="NotFound"):
        _tell(account, FAILED, topic=missing)
    assert _tell(account, AGAIN)["published"] is True


def kept(table: Any) -> None:
    """Stub the read and the write of the recent faults."""
    table.add_response("get_item", {})
    table.add_response("put_item", {})


def test_throttling_is_left_to_the_retry(stub: Stub) -> None:
    dynamodb, table = stub("dynamodb")
    sns, _ = stub("sns")
    table.add_response("get_item", {})
    table.add_client_error("put_item", "ProvisionedThroughputExceededException")
    with pytest.raises(ClientError, match="ProvisionedThroughputExceeded"):
        publish_once(FAILED, dynamodb=dynamodb, sns=sns, **SETTINGS)


def test_throttled_publication_takes_the_fingerprint_back(stub: Stub) -> None:
    dynamodb, table = stub("dynamodb")
    sns, topic = stub("sns")
    key = {"fingerprint": {"S": fingerprint(FAILED)}}
    kept(table)
    table.add_response("put_item", {})
    topic.add_client_error("publish", "Throttled", expected_params=None)
    table.add_response("delete_item", {}, {"TableName": "told", "Key": key})
    with pytest.raises(ClientError, match="Throttled"):
        publish_once(FAILED, dynamodb=dynamodb, sns=sns, **SETTINGS)


def test_the_request_has_sns_own_shape(stub: Stub) -> None:
    dynamodb, table = stub("dynamodb")
    sns, topic = stub("sns")
    kept(table)
    table.add_response("put_item", {})
    wanted = {"TopicArn": SETTINGS["topic"], "Subject": "Failed: support-lora", "Message": ANY}
    topic.add_response("publish", {"MessageId": "1"}, wanted)
    assert publish_once(FAILED, dynamodb=dynamodb, sns=sns, **SETTINGS)["published"] is True


def test_the_failure_is_counted_under_its_runbook(
    account: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    _tell(account, FAILED)
    line = json.loads(capsys.readouterr().out)
    assert line["training-job-failed"] == 1
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Temper/temper-dev"


def test_a_subject_fits_sns() -> None:
    long = {**FAILED, "detail": {"TrainingJobName": "ü" * 300, "TrainingJobStatus": "Failed"}}
    assert len(subject(long)) <= 100
    assert subject(long).isascii()


@pytest.mark.parametrize(
    ("kind", "detail", "page"),
    [
        ("Temper Fault", {"fault": "gpu-idle", "job": "a"}, "gpu-idle"),
        (
            "SageMaker HyperPod Cluster Node Health Event",
            {"ClusterName": "c", "HealthStatus": "Unhealthy"},
            "hyperpod-node-unhealthy",
        ),
        (
            "SageMaker HyperPod Cluster Node Health Event",
            {"ClusterName": "c", "HealthStatus": "Healthy"},
            None,
        ),
        (
            "SageMaker HyperPod Cluster State Change",
            {"ClusterName": "c", "ClusterStatus": "Failed"},
            "hyperpod-cluster-failed",
        ),
        ("AWS API Call via CloudTrail", {"eventName": "DisableKey"}, "key-disabled"),
        (
            "SageMaker Training Job State Change",
            {"TrainingJobName": "a", "TrainingJobStatus": "Completed"},
            None,
        ),
    ],
)
def test_each_kind_has_its_page(kind: str, detail: dict[str, Any], page: str | None) -> None:
    event = {"source": "s", "detail-type": kind, "detail": detail}
    assert runbook_for(event) == page
    assert message({**event, "time": "t", "region": "r"})
