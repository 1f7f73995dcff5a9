"""Lambda function that publishes an event to people exactly once.

EventBridge delivers at least once. A fingerprint of the event is written to a table with a
condition,
and only the invocation that writes it first publishes. If publishing fails, the fingerprint is
deleted, so that the retry is not mistaken for a duplicate. The same table holds recent faults by
runbook; `enrich_alarm_page` reads them when an alarm fires.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.exceptions import ClientError

# Services repeat an event within minutes; the job monitor repeats a fault every five minutes.
DEDUPLICATE_SECONDS = 15 * 60
DEDUPLICATE_FAULT_SECONDS = 6 * 3600
REASON_LIMIT = 300
VOLATILE_FIELDS = ("CreationTime", "EventTime", "LastModifiedTime", "LastUpdatedTime")
# Objects that hold the fields of HyperPod's events, at several levels, and of CloudTrail's.
NESTED_FIELDS = (
    "EventDetails",
    "EventMetadata",
    "Cluster",
    "InstanceGroup",
    "Instance",
    "HealthSummary",
    "requestParameters",
)
NAME_FIELDS = (
    "job",
    "image",
    "TrainingJobName",
    "HyperParameterTuningJobName",
    "ProcessingJobName",
    "TransformJobName",
    "EndpointName",
    "ModelPackageArn",
    "PipelineExecutionArn",
    "pipelineExecutionArn",
    "ClusterName",
    "jobName",
    "jobArn",
    "batchJobName",
    "modelArn",
    "repository-name",
    "keyId",
)
STATE_FIELDS = (
    "fault",
    "TrainingJobStatus",
    "HyperParameterTuningJobStatus",
    "ProcessingJobStatus",
    "TransformJobStatus",
    "EndpointStatus",
    "ModelPackageStatus",
    "ModelApprovalStatus",
    "currentPipelineExecutionStatus",
    "ClusterStatus",
    "HealthStatus",
    "scan-status",
    "eventName",
    "status",
    "EventLevel",
)
REASON_FIELDS = (
    "reason",
    "FailureReason",
    "FailureMessage",
    "HealthStatusReason",
    "failureMessage",
    "Description",
)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Run as the Lambda entry point."""
    return publish_once(
        event,
        dynamodb=boto3.client("dynamodb"),
        sns=boto3.client("sns"),
        table=os.environ["TABLE"],
        topic=os.environ["TOPIC"],
        namespace=os.environ["NAMESPACE"],
        now=int(time.time()),
    )


def publish_once(
    event: Mapping[str, Any],
    *,
    dynamodb: Any,
    sns: Any,
    table: str,
    topic: str,
    namespace: str,
    now: int,
) -> dict[str, Any]:
    """Publish an event unless an event with the same fingerprint was published recently.

    Args:
        event: EventBridge event.
        dynamodb: DynamoDB client.
        sns: SNS client.
        table: Name of the table of fingerprints and recent faults.
        topic: ARN of the events topic.
        namespace: Namespace of the metric that counts events by runbook.
        now: Seconds since the epoch.

    Returns:
        Whether the event was published, and its fingerprint.

    Raises:
        ClientError: If DynamoDB or SNS fails, so that Lambda retries the event.
    """
    record_recent_fault(event, dynamodb, table, now)
    key = {"fingerprint": {"S": fingerprint(event)}}
    try:
        dynamodb.put_item(
            TableName=table,
            Item={**key, "expires": {"N": str(now + deduplication_seconds(event))}},
            # DynamoDB deletes expired items with a delay, so an expired one must count as absent.
            ConditionExpression="attribute_not_exists(fingerprint) OR expires < :now",
            ExpressionAttributeValues={":now": {"N": str(now)}},
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            return {"published": False, "fingerprint": key["fingerprint"]["S"]}
        raise
    try:
        sns.publish(TopicArn=topic, Subject=subject(event), Message=message(event))
    except ClientError:
        dynamodb.delete_item(TableName=table, Key=key)
        raise
    emit_metric(event, namespace)
    return {"published": True, "fingerprint": key["fingerprint"]["S"]}


def record_recent_fault(event: Mapping[str, Any], dynamodb: Any, table: str, now: int) -> None:
    """Record the fault of a job, cluster or key under the name of its runbook.

    A lasting fault is recorded again each time it is detected, so that a page hours later names it.

    Args:
        event: EventBridge event.
        dynamodb: DynamoDB client.
        table: Name of the table of fingerprints and recent faults.
        now: Seconds since the epoch.
    """
    runbook, detail = runbook_for(event), _flattened(event.get("detail", {}))
    name = _first(detail, NAME_FIELDS)
    if runbook is None or name is None:
        return
    key = {"fingerprint": {"S": f"recent:{runbook}"}}
    recent = dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item", {})
    faults = {
        other: fault
        for other, fault in recent.get("what", {}).get("M", {}).items()
        if now - int(fault["M"]["time"]["N"]) < DEDUPLICATE_FAULT_SECONDS
    }
    reason = (_first(detail, REASON_FIELDS) or "")[:REASON_LIMIT]
    faults[name] = {"M": {"reason": {"S": reason}, "time": {"N": str(now)}}}
    expires = {"N": str(now + DEDUPLICATE_FAULT_SECONDS)}
    dynamodb.put_item(TableName=table, Item={**key, "what": {"M": faults}, "expires": expires})


def deduplication_seconds(event: Mapping[str, Any]) -> int:
    """Return for how many seconds the same event is not published again."""
    return (
        DEDUPLICATE_FAULT_SECONDS
        if event.get("detail-type") == "Temper Fault"
        else DEDUPLICATE_SECONDS
    )


def fingerprint(event: Mapping[str, Any]) -> str:
    """Return a hash of the event that ignores its id and its times."""
    detail = _flattened(event.get("detail", {}))
    identity: list[Any] = [event.get("source"), event.get("detail-type")]
    identity.append(sorted(event.get("resources", [])))
    if event.get("detail-type") == "Temper Fault":
        # The reason of a fault contains a duration, so it differs each time.
        identity += [_first(detail, NAME_FIELDS), detail.get("fault")]
    else:
        identity.append({key: value for key, value in detail.items() if key not in VOLATILE_FIELDS})
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def subject(event: Mapping[str, Any]) -> str:
    """Return the subject line. SNS allows 100 printable ASCII characters."""
    detail = _flattened(event.get("detail", {}))
    name = _first(detail, NAME_FIELDS) or (event.get("resources") or ["?"])[0]
    state = _first(detail, STATE_FIELDS) or event.get("detail-type", "event")
    line = f"{state}: {name}".replace("\n", " ")
    return line.encode("ascii", "replace").decode()[:100]


def message(event: Mapping[str, Any]) -> str:
    """Return the text: what happened, to which resource, why, and which runbook to read."""
    detail = _flattened(event.get("detail", {}))
    lines = [
        f"What:    {event.get('detail-type')} ({event.get('source')})",
        f"Which:   {_first(detail, NAME_FIELDS) or ', '.join(event.get('resources', []))}",
        f"State:   {_first(detail, STATE_FIELDS) or 'see below'}",
    ]
    if node := _first(detail, ("InstanceId",)):
        lines.append(f"Node:    {node}")
    if reason := _first(detail, REASON_FIELDS):
        lines.append(f"Why:     {reason}")
    if runbook := runbook_for(event):
        lines.append(f"Runbook: docs/runbooks/{runbook}.md")
    lines += [f"When:    {event.get('time')}", f"Where:   {event.get('region')}", ""]
    return "\n".join([*lines, json.dumps(event.get("detail", {}), indent=2, sort_keys=True)[:8000]])


def runbook_for(event: Mapping[str, Any]) -> str | None:
    """Return the name of the runbook, which is also the name of the alarm, or None."""
    kind, detail = event.get("detail-type"), _flattened(event.get("detail", {}))
    if kind == "Temper Fault":
        return str(detail["fault"])
    state = _first(detail, STATE_FIELDS)
    if kind == "SageMaker HyperPod Cluster Node Health Event":
        return None if detail.get("HealthStatus") == "Healthy" else "hyperpod-node-unhealthy"
    if kind == "SageMaker HyperPod Cluster Event":
        return _cluster_runbook(detail)
    if kind == "AWS API Call via CloudTrail":
        return "key-disabled"
    pages = {
        ("SageMaker Training Job State Change", "Failed"): "training-job-failed",
        ("SageMaker HyperParameter Tuning Job State Change", "Failed"): "training-job-failed",
        ("SageMaker Processing Job State Change", "Failed"): "training-job-failed",
        ("SageMaker HyperPod Cluster State Change", "Failed"): "hyperpod-cluster-failed",
        ("SageMaker HyperPod Cluster State Change", "RollingBack"): "hyperpod-cluster-failed",
        ("SageMaker Endpoint State Change", "FAILED"): "endpoint-errors",
        ("Model Customization Job State Change", "Failed"): "training-job-failed",
    }
    return pages.get((str(kind), str(state)))


def _cluster_runbook(detail: Mapping[str, Any]) -> str | None:
    """Return the runbook of a cluster event.

    With continuous provisioning, a lack of capacity or of a network interface is an event of level
    Error. The replacement of a root volume is routine maintenance, and not that of a node.
    docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-cluster-events-reference.html
    """
    if detail.get("EventLevel") == "Error":
        return "hyperpod-cluster-failed"
    text = str(detail.get("Description") or detail.get("message") or "").lower()
    return "hyperpod-node-replaced" if "replac" in text and "volume" not in text else None


def emit_metric(event: Mapping[str, Any], namespace: str) -> None:
    """Count the event under the name of its runbook.

    The log line has the embedded metric format, which CloudWatch turns into a metric.
    """
    name = runbook_for(event)
    if name is None:
        return
    line = {
        "_aws": {
            "Timestamp": int(time.time() * 1000),
            "CloudWatchMetrics": [
                {"Namespace": namespace, "Dimensions": [[]], "Metrics": [{"Name": name}]}
            ],
        },
        name: 1,
    }
    sys.stdout.write(json.dumps(line) + "\n")


def _flattened(detail: Any) -> dict[str, Any]:
    """Return a detail merged with the nested objects of HyperPod and CloudTrail events.

    An outer field takes precedence over an inner one of the same name.
    """
    if not isinstance(detail, dict):
        return {}
    inner: dict[str, Any] = {}
    for name in NESTED_FIELDS:
        inner.update(_flattened(detail.get(name)))
    return {**inner, **detail}


def _first(detail: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((str(detail[key]) for key in keys if detail.get(key)), None)
