"""Tests that an event is published once, also after duplicates and failed publications."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY
from moto import mock_aws

from stacks.handlers.event_message import message, subject
from stacks.handlers.event_runbook import runbook_for
from stacks.handlers.event_scope import EventScope
from stacks.handlers.monitor.scope import Scope
from stacks.handlers.publish_event import (
    PublishSettings,
    fingerprint,
    publish_once,
    record_recent_fault,
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
        "Tags": {"Environment": "dev"},
    },
}
# A failure whose cause is outside the job, and pages if it is not the only one.
DENIED: dict[str, Any] = {
    **FAILED,
    "detail": {
        "TrainingJobName": "support-lora",
        "TrainingJobStatus": "Failed",
        "FailureReason": "ClientError: Access denied when calling s3:GetObject",
        "Tags": {"Environment": "dev"},
    },
}
AGAIN = {**FAILED, "id": "two", "time": "2026-11-20T12:00:09Z"}
KEY = "arn:aws:kms:us-east-1:123456789012:key/one"
DEV = EventScope(Scope("dev"), "temper-dev", (KEY, KEY.replace("one", "two")))
NOW = 1_800_000_000
SETTINGS = PublishSettings(
    table="told",
    topic="arn:aws:sns:us-east-1:123456789012:events",
    pages="arn:aws:sns:us-east-1:123456789012:pages",
    runs="arn:aws:sns:us-east-1:123456789012:runs",
    namespace="Temper/temper-dev",
    scope=DEV,
)


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
        pages = sns.create_topic(Name="pages")["TopicArn"]
        cloudwatch = boto3.client("cloudwatch", **region)
        made = {"dynamodb": dynamodb, "sns": sns, "cloudwatch": cloudwatch}
        runs = sns.create_topic(Name="runs")["TopicArn"]
        yield {**made, "sqs": sqs, "queue": queue, "topic": topic, "pages": pages, "runs": runs}


def _tell(
    account: dict[str, Any], event: dict[str, Any], *, now: int = NOW, topic: str | None = None
) -> dict[str, Any]:
    topics = {"topic": topic or account["topic"], "pages": account["pages"]}
    settings = replace(SETTINGS, **topics, runs=account["runs"])
    return publish_once(event, client=lambda name: account[name], settings=settings, now=now)


def _read(account: dict[str, Any]) -> list[str]:
    answer = account["sqs"].receive_message(QueueUrl=account["queue"], MaxNumberOfMessages=10)
    return [json.loads(m["Body"])["Message"] for m in answer.get("Messages", [])]


def test_a_duplicate_is_reported_once(account: dict[str, Any]) -> None:
    assert _tell(account, FAILED)["published"] is True
    assert _tell(account, AGAIN)["published"] is False
    [told] = _read(account)
    assert "support-lora" in told
    assert "AlgorithmError: out of memory" in told
    assert "docs/runbooks" not in told, "the error is the job's own"


def test_another_job_is_another_message(account: dict[str, Any]) -> None:
    other = {**FAILED, "detail": {**FAILED["detail"], "TrainingJobName": "other"}}
    assert _tell(account, FAILED)["published"] is True
    assert _tell(account, other)["published"] is True


def test_the_same_thing_later_is_told_again(account: dict[str, Any]) -> None:
    assert _tell(account, FAILED)["published"] is True
    assert _tell(account, AGAIN, now=NOW + 14 * 60)["published"] is False
    assert _tell(account, AGAIN, now=NOW + 16 * 60)["published"] is True


def _fault(minutes: int) -> dict[str, Any]:
    detail = {"job": "a", "fault": "training-job-stuck", "reason": f"no loss for {minutes} minutes"}
    return {"source": "temper.x", "detail-type": "Temper Fault", "detail": detail}


def test_a_fault_that_lasts_is_told_once_in_hours(account: dict[str, Any]) -> None:
    now = NOW
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
        detail = {
            "ClusterName": "temper-dev-cluster",
            "EventDetails": {"EventLevel": "Warn", "Description": text},
        }
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
    detail = {
        "ClusterName": "temper-dev-cluster",
        "InstanceId": "i-0123456789abcdef0",
        "HealthSummary": summary,
    }
    kind = "SageMaker HyperPod Cluster Node Health Event"
    return {"source": "aws.sagemaker", "detail-type": kind, "detail": detail}


def _cluster_event(level: str, description: str, **instance: str) -> dict[str, Any]:
    """Return a cluster event with the fields of the events reference.

    docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-cluster-events-reference.html
    """
    details = {
        "ClusterName": "temper-dev-cluster",
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
    assert subject(event) == "Unhealthy: temper-dev-cluster"
    assert "Node:    i-0123456789abcdef0" in message(event)
    assert "Why:     XidHardwareFailure" in message(event)


def test_a_lack_of_capacity_pages_with_its_reason() -> None:
    event = _cluster_event("Error", "Instance creation failed", FailureMessage="no capacity for p5")
    assert runbook_for(event) == "hyperpod-cluster-failed"
    assert "Why:     no capacity for p5" in message(event)


# Descriptions of the events reference of AWS, with its placeholders filled in.
# docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-cluster-events-reference.html
DOCUMENTED = [
    ("Info", "Cluster c update started successfully", None),
    ("Info", "Cluster c update completed successfully", None),
    ("Error", "Cluster c update failed", "hyperpod-cluster-failed"),
    ("Error", "Failed to start InstanceGroup g scale-up in Cluster c", "hyperpod-cluster-failed"),
    (
        "Error",
        "Failed to create Customer ENI for instance in Cluster c and IG g",
        "hyperpod-cluster-failed",
    ),
    ("Error", "Failed to provision EC2 Instance in Cluster c and IG g", "hyperpod-cluster-failed"),
    (
        "Error",
        "Rollback failed for IG g in Cluster c. Some instances may be in FailedMaintenance state.",
        "hyperpod-cluster-failed",
    ),
    (
        "Info",
        "No CapacityReservation found for Cluster c and IG g, using on-demand pool",
        None,
    ),
    ("Info", "EC2 Instance i-1 successfully provisioned in Cluster c and IG g", None),
    ("Info", "Termination of EC2 Instance i-1 is currently in progress in Cluster c", None),
    (
        "Info",
        "Instance i-1 is starting as part of instance replacement in Cluster c and IG g",
        "hyperpod-node-replaced",
    ),
    (
        "Warn",
        "Failed instances in IG g in Cluster c queued for node replacement.",
        "hyperpod-node-replaced",
    ),
    (
        "Error",
        "Instance i-1 failed to start as part of instance replacement in Cluster c and IG g",
        "hyperpod-cluster-failed",
    ),
    # Patching replaces root volumes as a routine.
    ("Info", "Root volume replacement started for Instance i-1 in IG g.", None),
    ("Info", "UpdateClusterSoftware completed successfully for IG g in Cluster c.", None),
    ("Info", "Instance i-1 in IG g updated successfully.", None),
    ("Warn", "Slurm configuration drift detected: partitions", None),
    # The example of the EventBridge page has no level.
    ("", "Instance lifecycle script execution for EC2InstanceId i-1 has Started", None),
    (
        "",
        "Instance lifecycle script execution for EC2 Instance i-1 has Failed.",
        "hyperpod-cluster-failed",
    ),
]


@pytest.mark.parametrize(("level", "description", "page"), DOCUMENTED)
def test_documented_cluster_events_page_by_level_and_kind(
    level: str, description: str, page: str | None
) -> None:
    assert runbook_for(_cluster_event(level, description)) == page


@pytest.mark.parametrize(
    ("reason", "page"),
    [
        ("AlgorithmError: ExecuteUserScriptError, exit code 1", None),
        ("AlgorithmError: AccessDenied when the script called another bucket", None),
        ("CapacityError: Unable to provision requested ML compute capacity", None),
        ("ClientError: Data download failed: key not found", None),
        ("InternalServerError: We encountered an internal error", "training-job-failed"),
        ("ClientError: Access denied when calling s3:GetObject", "training-job-failed"),
        ("ClientError: The KMS key is disabled", "training-job-failed"),
    ],
)
def test_a_failure_that_is_the_jobs_own_pages_nobody(reason: str, page: str | None) -> None:
    event = {**FAILED, "detail": {**DENIED["detail"], "FailureReason": reason}}
    assert runbook_for(event) == page


@pytest.mark.parametrize(
    ("reason", "page"),
    [
        ("AlgorithmError: See job logs for more information, exit code: 3", None),
        ("ClientError: Access denied when calling s3:GetObject", "training-job-failed"),
    ],
)
def test_a_processing_job_pages_as_a_training_job_does(reason: str, page: str | None) -> None:
    detail = {
        "ProcessingJobName": "temper-dev-tidy",
        "ProcessingJobStatus": "Failed",
        "FailureReason": reason,
        "Tags": {"Environment": "dev"},
    }
    event = {**FAILED, "detail-type": "SageMaker Processing Job State Change", "detail": detail}
    assert runbook_for(event) == page
    assert DEV.covers(event, _never)


def _never(name: str) -> Any:
    raise AssertionError(f"{name} is asked, although the event itself tells")


def _tagged(value: str) -> dict[str, Any]:
    return {**FAILED, "detail": {**DENIED["detail"], "Tags": {"Environment": value}}}


@pytest.mark.parametrize(
    ("event", "ours"),
    [
        (_tagged("dev"), True),
        (_tagged("prod"), False),
        (_cluster_event("Error", "Cluster c update failed"), True),
        (
            {
                "source": "aws.sagemaker",
                "detail": {"EventDetails": {"ClusterName": "temper-prod-cluster"}},
            },
            False,
        ),
        (_key_event("one", "1"), True),
        (_key_event(KEY, "1"), True),
        (_key_event("another", "1"), False),
        ({"source": "temper.temper-dev", "detail": {"fault": "gpu-idle", "job": "a"}}, True),
    ],
)
def test_events_of_other_environments_are_dropped(event: dict[str, Any], ours: bool) -> None:
    assert DEV.covers(event, _never) is ours
    assert EventScope(Scope(""), "temper-dev", ()).covers(event, _never)


@pytest.mark.parametrize(
    ("answer", "ours"), [("dev", True), ("prod", False), (None, False), ("gone", False)]
)
def test_tags_that_an_event_lacks_are_read(stub: Stub, answer: str | None, ours: bool) -> None:
    sagemaker, tags = stub("sagemaker")
    wanted = {"ResourceArn": FAILED["resources"][0]}
    if answer == "gone":
        tags.add_client_error("list_tags", "ValidationException", "The resource does not exist.")
    else:
        found = [{"Key": "Environment", "Value": answer}] if answer else []
        tags.add_response("list_tags", {"Tags": found}, wanted)
    event = {**FAILED, "detail": {"TrainingJobName": "a", "Tags": {}}}
    assert DEV.covers(event, {"sagemaker": sagemaker}.__getitem__) is ours


def test_what_does_not_concern_us_is_neither_told_nor_recorded(account: dict[str, Any]) -> None:
    assert _tell(account, _tagged("prod"))["published"] is False
    assert account["dynamodb"].scan(TableName="told")["Count"] == 0


def test_a_further_fault_of_an_active_alarm_pages_by_itself(account: dict[str, Any]) -> None:
    queue = account["sqs"].create_queue(QueueName="phone")["QueueUrl"]
    arn = account["sqs"].get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    account["sns"].subscribe(
        TopicArn=account["pages"], Protocol="sqs", Endpoint=arn["Attributes"]["QueueArn"]
    )
    alarm = "temper-dev-training-job-stuck"
    account["cloudwatch"].put_metric_alarm(
        AlarmName=alarm,
        MetricName="training-job-stuck",
        Namespace="Temper/temper-dev",
        Statistic="Maximum",
        Period=300,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
    )

    def phone() -> list[str]:
        answer = account["sqs"].receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        return [json.loads(m["Body"])["Subject"] for m in answer.get("Messages", [])]

    def stuck(job: str) -> dict[str, Any]:
        event = _fault(30)
        return {**event, "detail": {**event["detail"], "job": job}}

    account["cloudwatch"].set_alarm_state(AlarmName=alarm, StateValue="OK", StateReason="test")
    _tell(account, stuck("first"))
    assert phone() == [], "the alarm itself pages"
    account["cloudwatch"].set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="test")
    _tell(account, stuck("second"))
    _tell(account, stuck("second"), now=NOW + 300)
    assert phone() == ["ALARM: training-job-stuck: second"]


def test_faults_recorded_at_once_are_all_kept_and_old_ones_go(account: dict[str, Any]) -> None:
    """Between the two updates of one invocation, another one records its fault."""
    dynamodb, update = account["dynamodb"], account["dynamodb"].update_item
    stuck = _fault(30)
    later = {**stuck, "detail": {**stuck["detail"], "job": "second"}}
    record_recent_fault(stuck, dynamodb, "told", NOW - 7 * 3600)

    class Interrupted:
        calls = 0

        def update_item(self, **request: Any) -> Any:
            answer = update(**request)
            self.calls += 1
            if self.calls == 1:
                record_recent_fault(later, dynamodb, "told", NOW)
            return answer

    first = {**stuck, "detail": {**stuck["detail"], "job": "first"}}
    record_recent_fault(first, Interrupted(), "told", NOW)
    key = {"fingerprint": {"S": "recent:training-job-stuck"}}
    kept = dynamodb.get_item(TableName="told", Key=key)["Item"]["what"]["M"]
    assert set(kept) == {"first", "second"}


def test_a_failed_publication_is_not_remembered(account: dict[str, Any]) -> None:
    missing = "arn:aws:sns:us-east-1:123456789012:not-there"
    with pytest.raises(ClientError, match="NotFound"):
        _tell(account, FAILED, topic=missing)
    assert _tell(account, AGAIN)["published"] is True


def _clients(dynamodb: Any, sns: Any) -> Callable[[str], Any]:
    return {"dynamodb": dynamodb, "sns": sns, "cloudwatch": None}.__getitem__


def test_throttling_is_left_to_the_retry(stub: Stub) -> None:
    dynamodb, table = stub("dynamodb")
    sns, _ = stub("sns")
    table.add_client_error("put_item", "ProvisionedThroughputExceededException")
    with pytest.raises(ClientError, match="ProvisionedThroughputExceeded"):
        publish_once(FAILED, client=_clients(dynamodb, sns), settings=SETTINGS, now=NOW)


def test_throttled_publication_takes_the_fingerprint_back(stub: Stub) -> None:
    dynamodb, table = stub("dynamodb")
    sns, topic = stub("sns")
    key = {"fingerprint": {"S": fingerprint(FAILED)}}
    table.add_response("put_item", {})
    topic.add_client_error("publish", "Throttled", expected_params=None)
    table.add_response("delete_item", {}, {"TableName": "told", "Key": key})
    with pytest.raises(ClientError, match="Throttled"):
        publish_once(FAILED, client=_clients(dynamodb, sns), settings=SETTINGS, now=NOW)


def test_the_request_has_sns_own_shape(stub: Stub) -> None:
    dynamodb, table = stub("dynamodb")
    sns, topic = stub("sns")
    table.add_response("put_item", {})
    wanted = {"TopicArn": SETTINGS.topic, "Subject": "Failed: support-lora", "Message": ANY}
    topic.add_response("publish", {"MessageId": "1"}, wanted)
    assert (
        publish_once(FAILED, client=_clients(dynamodb, sns), settings=SETTINGS, now=NOW)[
            "published"
        ]
        is True
    )


def test_the_failure_is_counted_under_its_runbook(
    account: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    _tell(account, DENIED)
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
            {"ClusterName": "temper-dev-cluster", "HealthStatus": "Unhealthy"},
            "hyperpod-node-unhealthy",
        ),
        (
            "SageMaker HyperPod Cluster Node Health Event",
            {"ClusterName": "temper-dev-cluster", "HealthStatus": "Healthy"},
            None,
        ),
        (
            "SageMaker HyperPod Cluster State Change",
            {"ClusterName": "temper-dev-cluster", "ClusterStatus": "Failed"},
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
