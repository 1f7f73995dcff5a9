"""Tells people about an event, once: EventBridge delivers at least once, people want it once.

A fingerprint of what happened is written with a condition; whoever writes it first publishes. If
publishing fails the fingerprint is taken back, so that the retry is not mistaken for a duplicate.
What is wrong with which job is kept for a while beside it: `page` reads it when an alarm goes off.
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

# Services repeat an event within minutes; our own watch finds a fault anew every five minutes.
REMEMBER_S = 15 * 60
REMEMBER_FAULT_S = 6 * 3600
REASON_LIMIT = 300
VOLATILE = ("CreationTime", "EventTime", "LastModifiedTime", "LastUpdatedTime")
NAMES = (
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
STATES = (
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
)
REASONS = ("reason", "FailureReason", "FailureMessage", "HealthStatusReason", "failureMessage")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry."""
    return notify(
        event,
        dynamodb=boto3.client("dynamodb"),
        sns=boto3.client("sns"),
        table=os.environ["TABLE"],
        topic=os.environ["TOPIC"],
        namespace=os.environ["NAMESPACE"],
        now=int(time.time()),
    )


def notify(
    event: Mapping[str, Any],
    *,
    dynamodb: Any,
    sns: Any,
    table: str,
    topic: str,
    namespace: str,
    now: int,
) -> dict[str, Any]:
    """Publishes the event unless the same thing was published a short while ago."""
    keep_for_pages(event, dynamodb, table, now)
    key = {"fingerprint": {"S": fingerprint(event)}}
    try:
        dynamodb.put_item(
            TableName=table,
            Item={**key, "expires": {"N": str(now + remembered(event))}},
            # TTL deletes late: an item past its time counts as gone.
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
    count(event, namespace)
    return {"published": True, "fingerprint": key["fingerprint"]["S"]}


def keep_for_pages(event: Mapping[str, Any], dynamodb: Any, table: str, now: int) -> None:
    """Notes under its runbook's name what is wrong with which job, cluster or key.

    A fault that lasts is noted anew each time, so that a page hours later still names it.
    """
    runbook, detail = runbook_of(event), _flat(event.get("detail", {}))
    name = _first(detail, NAMES)
    if runbook is None or name is None:
        return
    key = {"fingerprint": {"S": f"recent:{runbook}"}}
    known = dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item", {})
    faults = {
        other: fault
        for other, fault in known.get("what", {}).get("M", {}).items()
        if now - int(fault["M"]["time"]["N"]) < REMEMBER_FAULT_S
    }
    reason = (_first(detail, REASONS) or "")[:REASON_LIMIT]
    faults[name] = {"M": {"reason": {"S": reason}, "time": {"N": str(now)}}}
    expires = {"N": str(now + REMEMBER_FAULT_S)}
    dynamodb.put_item(TableName=table, Item={**key, "what": {"M": faults}, "expires": expires})


def remembered(event: Mapping[str, Any]) -> int:
    """For how many seconds the same thing is not told again."""
    return REMEMBER_FAULT_S if event.get("detail-type") == "Temper Fault" else REMEMBER_S


def fingerprint(event: Mapping[str, Any]) -> str:
    """What happened to what: two events that differ only in id and time have the same."""
    detail = _flat(event.get("detail", {}))
    told: list[Any] = [event.get("source"), event.get("detail-type")]
    told.append(sorted(event.get("resources", [])))
    if event.get("detail-type") == "Temper Fault":
        # Its reason counts minutes, and would be another each time.
        told += [_first(detail, NAMES), detail.get("fault")]
    else:
        told.append({key: value for key, value in detail.items() if key not in VOLATILE})
    text = json.dumps(told, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def subject(event: Mapping[str, Any]) -> str:
    """A line for a phone: SNS allows 100 printable ASCII characters."""
    detail = _flat(event.get("detail", {}))
    name = _first(detail, NAMES) or (event.get("resources") or ["?"])[0]
    state = _first(detail, STATES) or event.get("detail-type", "event")
    line = f"{state}: {name}".replace("\n", " ")
    return line.encode("ascii", "replace").decode()[:100]


def message(event: Mapping[str, Any]) -> str:
    """What happened, to what, why, and where to read on."""
    detail = _flat(event.get("detail", {}))
    lines = [
        f"What:    {event.get('detail-type')} ({event.get('source')})",
        f"Which:   {_first(detail, NAMES) or ', '.join(event.get('resources', []))}",
        f"State:   {_first(detail, STATES) or 'see below'}",
    ]
    if reason := _first(detail, REASONS):
        lines.append(f"Why:     {reason}")
    if runbook := runbook_of(event):
        lines.append(f"Runbook: docs/runbooks/{runbook}.md")
    lines += [f"When:    {event.get('time')}", f"Where:   {event.get('region')}", ""]
    return "\n".join([*lines, json.dumps(event.get("detail", {}), indent=2, sort_keys=True)[:8000]])


def runbook_of(event: Mapping[str, Any]) -> str | None:
    """The page that says what to do; its name is the alarm's."""
    kind, detail = event.get("detail-type"), _flat(event.get("detail", {}))
    if kind == "Temper Fault":
        return str(detail["fault"])
    state = _first(detail, STATES)
    if kind == "SageMaker HyperPod Cluster Node Health Event":
        return None if detail.get("HealthStatus") == "Healthy" else "hyperpod-node-unhealthy"
    if kind == "SageMaker HyperPod Cluster Event":
        return "hyperpod-node-replaced" if "replac" in json.dumps(detail).lower() else None
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


def count(event: Mapping[str, Any], namespace: str) -> None:
    """Counts the event under its runbook's name, as a log line CloudWatch turns into a metric."""
    name = runbook_of(event)
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


def _flat(detail: Any) -> dict[str, Any]:
    """A detail with the fields of HyperPod's and CloudTrail's inner objects beside its own."""
    if not isinstance(detail, dict):
        return {}
    inner: dict[str, Any] = {}
    for name in ("EventDetails", "requestParameters"):
        if isinstance(detail.get(name), dict):
            inner.update(detail[name])
    return {**inner, **detail}


def _first(detail: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((str(detail[key]) for key in keys if detail.get(key)), None)
