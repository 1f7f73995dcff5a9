"""Lambda function that publishes an event to people exactly once.

EventBridge delivers at least once. A fingerprint of the event is written to a table with a
condition, and only the invocation that writes it first publishes. If publishing fails, the
fingerprint is deleted, so that the retry is not mistaken for a duplicate. The same table holds
recent faults by runbook; `enrich_alarm_page` reads them when an alarm fires.

An alarm pages when it changes to ALARM. A further fault of the same alarm changes nothing, so this
function pages it by itself if the alarm is in ALARM already.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.exceptions import ClientError

from .event_fields import NAME_FIELDS, REASON_FIELDS, first_of, flattened
from .event_message import message, subject
from .event_model import with_model_version
from .event_runbook import runbook_for
from .event_scope import EventScope
from .page_message import publish_page
from .run_notice import CLUSTER_EVENT, publish_notice

# Services repeat an event within minutes; the job monitor repeats what it finds every
# five minutes.
DEDUPLICATE_SECONDS = 15 * 60
DEDUPLICATE_FAULT_SECONDS = 6 * 3600
REASON_LIMIT = 300
VOLATILE_FIELDS = ("CreationTime", "EventTime", "LastModifiedTime", "LastUpdatedTime")


@dataclass(frozen=True)
class PublishSettings:
    """Settings of the function.

    Attributes:
        table: Name of the table of fingerprints and recent faults.
        topic: ARN of the events topic.
        pages: ARN of the topic that pages.
        runs: ARN of the topic of notices to the creators of runs.
        namespace: Namespace of the metric that counts events by runbook.
        scope: Which events concern the environment.
    """

    table: str
    topic: str
    pages: str
    runs: str
    namespace: str
    scope: EventScope


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Run as the Lambda entry point."""
    settings = PublishSettings(
        table=os.environ["TABLE"],
        topic=os.environ["TOPIC"],
        pages=os.environ["PAGES"],
        runs=os.environ["RUNS"],
        namespace=os.environ["NAMESPACE"],
        scope=EventScope.from_variables(os.environ),
    )
    return publish_once(event, client=boto3.client, settings=settings, now=int(time.time()))


def publish_once(
    event: Mapping[str, Any],
    *,
    client: Callable[[str], Any],
    settings: PublishSettings,
    now: int,
) -> dict[str, Any]:
    """Publish an event unless an event with the same fingerprint was published recently.

    Args:
        event: EventBridge event.
        client: Factory of clients by service name.
        settings: Settings of the function.
        now: Seconds since the epoch.

    Returns:
        Whether the event was published, and its fingerprint; nothing is published of what does not
            concern the environment.

    Raises:
        ClientError: If a service fails, so that Lambda retries the event.
    """
    if not settings.scope.covers(event, client):
        return {"published": False, "reason": "it does not concern this environment"}
    dynamodb, sns = client("dynamodb"), client("sns")
    table = settings.table
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
        alarm = active_alarm(event, client("cloudwatch"), settings.scope.prefix)
        named = with_model_version(event, client)
        sns.publish(TopicArn=settings.topic, Subject=subject(named), Message=message(named))
        publish_notice(event, client, settings.runs)
        if alarm is not None:
            page_further_fault(event, alarm, sns, settings.pages)
    except ClientError:
        dynamodb.delete_item(TableName=table, Key=key)
        raise
    emit_metric(event, settings.namespace)
    return {"published": True, "fingerprint": key["fingerprint"]["S"]}


def active_alarm(event: Mapping[str, Any], cloudwatch: Any, prefix: str) -> dict[str, Any] | None:
    """Return the alarm of this event if it is in ALARM, so that it will not page again.

    Args:
        event: EventBridge event.
        cloudwatch: CloudWatch client.
        prefix: Prefix of the environment, which begins the names of its alarms.
    """
    runbook = runbook_for(event)
    if runbook is None:
        return None
    answer = cloudwatch.describe_alarms(
        AlarmNames=[f"{prefix}-{runbook}"], AlarmTypes=["MetricAlarm"]
    )
    active = [alarm for alarm in answer["MetricAlarms"] if alarm["StateValue"] == "ALARM"]
    return active[0] if active else None


def page_further_fault(
    event: Mapping[str, Any], alarm: Mapping[str, Any], sns: Any, topic: str
) -> None:
    """Page another fault of an alarm that is in ALARM already.

    Args:
        event: EventBridge event.
        alarm: Description of the alarm by CloudWatch.
        sns: SNS client.
        topic: Topic that people subscribe to.
    """
    detail, runbook = flattened(event.get("detail", {})), str(runbook_for(event))
    name = first_of(detail, NAME_FIELDS) or "?"
    reason = (first_of(detail, REASON_FIELDS) or "")[:REASON_LIMIT]
    # The name of the resource makes it an incident of its own in tools that go by the alarm's name.
    structured = {
        "AlarmName": f"{alarm['AlarmName']}: {name}",
        "AlarmArn": alarm["AlarmArn"],
        "AlarmDescription": alarm.get("AlarmDescription", ""),
        "NewStateValue": "ALARM",
        "OldStateValue": "OK",
        "NewStateReason": f"another fault while the alarm was active: {reason}",
        "StateChangeTime": event.get("time"),
        "Region": event.get("region"),
        "AWSAccountId": event.get("account"),
    }
    line = f"{name}: {reason}" if reason else name
    publish_page(sns, topic, structured, runbook=runbook, names=[line])


def record_recent_fault(event: Mapping[str, Any], dynamodb: Any, table: str, now: int) -> None:
    """Record the fault of a job, cluster or key under the name of its runbook.

    A lasting fault is recorded again each time it is detected, so that a page hours later names it.

    Args:
        event: EventBridge event.
        dynamodb: DynamoDB client.
        table: Name of the table of fingerprints and recent faults.
        now: Seconds since the epoch.
    """
    runbook, detail = runbook_for(event), flattened(event.get("detail", {}))
    name = first_of(detail, NAME_FIELDS)
    if runbook is None or name is None:
        return
    key = {"fingerprint": {"S": f"recent:{runbook}"}}
    # Each fault is a field of its own, so that two invocations at once lose none.
    recent = dynamodb.update_item(
        TableName=table,
        Key=key,
        UpdateExpression="SET what = if_not_exists(what, :nothing), expires = :expires",
        ExpressionAttributeValues={
            ":nothing": {"M": {}},
            ":expires": {"N": str(now + DEDUPLICATE_FAULT_SECONDS)},
        },
        ReturnValues="ALL_NEW",
    )["Attributes"]["what"]["M"]
    old = [
        other
        for other, fault in recent.items()
        if other != name and now - int(fault["M"]["time"]["N"]) >= DEDUPLICATE_FAULT_SECONDS
    ]
    reason = (first_of(detail, REASON_FIELDS) or "")[:REASON_LIMIT]
    removal = ", ".join(f"what.#old{index}" for index in range(len(old)))
    dynamodb.update_item(
        TableName=table,
        Key=key,
        UpdateExpression="SET what.#name = :fault" + (f" REMOVE {removal}" if old else ""),
        ExpressionAttributeNames={
            "#name": name,
            **{f"#old{index}": other for index, other in enumerate(old)},
        },
        ExpressionAttributeValues={
            ":fault": {"M": {"reason": {"S": reason}, "time": {"N": str(now)}}}
        },
    )


def deduplication_seconds(event: Mapping[str, Any]) -> int:
    """Return for how many seconds the same event is not published again."""
    repeated = event.get("detail-type") in ("Temper Fault", CLUSTER_EVENT)
    return DEDUPLICATE_FAULT_SECONDS if repeated else DEDUPLICATE_SECONDS


def fingerprint(event: Mapping[str, Any]) -> str:
    """Return a hash of the event that ignores its id and its times."""
    detail = flattened(event.get("detail", {}))
    identity: list[Any] = [event.get("source"), event.get("detail-type")]
    identity.append(sorted(event.get("resources", [])))
    if event.get("detail-type") == "Temper Fault":
        # The reason of a fault contains a duration, so it differs each time.
        identity += [first_of(detail, NAME_FIELDS), detail.get("fault")]
    else:
        identity.append({key: value for key, value in detail.items() if key not in VOLATILE_FIELDS})
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


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
