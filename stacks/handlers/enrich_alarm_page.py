"""Page people about a composite alarm, with the names of the affected jobs, endpoints or models.

CloudWatch's own message only names the alarm. The names come from three sources: the table of
faults
that `publish_event` reported recently, a Metrics Insights query over endpoints and models, and a
log
search for jobs with a NaN loss. A lookup that fails never holds a page back.
"""

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import boto3

RECENT_SECONDS = 2 * 3600
LOOK_BACK_SECONDS = 20 * 60
MAX_NAMES = 10
SUBJECT_LIMIT = 100


@dataclass(frozen=True)
class PageClients:
    """The services that are asked."""

    dynamodb: Any
    cloudwatch: Any
    logs: Any
    sns: Any


def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """Lambda's entry, for messages of the alarms' topic."""
    clients = PageClients(
        dynamodb=boto3.client("dynamodb"),
        cloudwatch=boto3.client("cloudwatch"),
        logs=boto3.client("logs"),
        sns=boto3.client("sns"),
    )
    for record in event["Records"]:
        publish_page(
            json.loads(record["Sns"]["Message"]),
            clients,
            prefix=os.environ["PREFIX"],
            table=os.environ["TABLE"],
            topic=os.environ["TOPIC"],
            lookups=json.loads(os.environ["LOOKUPS"]),
            now=int(time.time()),
        )
    return {"paged": len(event["Records"])}


def publish_page(
    alarm: Mapping[str, Any],
    clients: PageClients,
    *,
    prefix: str,
    table: str,
    topic: str,
    lookups: Mapping[str, Mapping[str, str]],
    now: int,
) -> None:
    """Publishes one alarm's change, with the names behind it."""
    name = str(alarm["AlarmName"]).removeprefix(f"{prefix}-")
    state = alarm["NewStateValue"]
    found: list[tuple[str, list[str]]] = []
    if state == "ALARM":
        for child in triggering_alarms(alarm, prefix):
            found.append((child, _find_names(child, clients, table, lookups.get(child, {}), now)))
    clients.sns.publish(
        TopicArn=topic, Subject=subject(state, name, found), Message=message(alarm, found)
    )


def triggering_alarms(alarm: Mapping[str, Any], prefix: str) -> list[str]:
    """The alarms that set a composite off; all it stands on where CloudWatch does not say."""
    reported = [
        str(child["Arn"]).rpartition(":alarm:")[2]
        for child in alarm.get("TriggeringChildren", [])
        if child.get("State", {}).get("Value", "ALARM") == "ALARM"
    ]
    names = reported or re.findall(r'ALARM\("?([^")]+)"?\)', str(alarm.get("AlarmRule", "")))
    return [name.removeprefix(f"{prefix}-") for name in names]


def _find_names(
    child: str, clients: PageClients, table: str, lookup: Mapping[str, str], now: int
) -> list[str]:
    """What an alarm is about, one line each; says so where that could not be found out."""
    try:
        found = [*_recent_faults(clients.dynamodb, table, child, now)]
        if not found and "query" in lookup:
            found = [*_names_in_metrics(clients.cloudwatch, lookup["query"], now)]
        if not found and "pattern" in lookup:
            found = [*_names_in_logs(clients.logs, lookup["group"], lookup["pattern"], now)]
    except Exception as error:
        # Whoever is paged can look the name up; without a page nobody would.
        sys.stderr.write(f"{child}: {error!r}\n")
        return [f"(which one could not be found out: {type(error).__name__})"]
    return found[:MAX_NAMES]


def _recent_faults(dynamodb: Any, table: str, child: str, now: int) -> Iterator[str]:
    key = {"fingerprint": {"S": f"recent:{child}"}}
    item = dynamodb.get_item(TableName=table, Key=key).get("Item", {})
    faults = item.get("what", {}).get("M", {})
    newest = sorted(faults.items(), key=lambda each: -int(each[1]["M"]["time"]["N"]))
    for name, fault in newest:
        if now - int(fault["M"]["time"]["N"]) <= RECENT_SECONDS:
            reason = fault["M"]["reason"]["S"]
            yield f"{name}: {reason}" if reason else name


def _names_in_metrics(cloudwatch: Any, query: str, now: int) -> Iterator[str]:
    answer = cloudwatch.get_metric_data(
        MetricDataQueries=[{"Id": "q", "Expression": query, "Period": 300}],
        StartTime=now - LOOK_BACK_SECONDS,
        EndTime=now,
    )
    for result in answer["MetricDataResults"]:
        if any(result["Values"]):
            yield f"{result['Label']}: {max(result['Values']):g}"


def _names_in_logs(logs: Any, group: str, pattern: str, now: int) -> Iterator[str]:
    answer = logs.filter_log_events(
        logGroupName=group,
        filterPattern=pattern,
        startTime=(now - LOOK_BACK_SECONDS) * 1000,
        limit=100,
    )
    seen: set[str] = set()
    for line in answer["events"]:
        job = line["logStreamName"].partition("/")[0]
        if job not in seen:
            seen.add(job)
            yield f"{job}: {line['message'].strip()[:200]}"


def subject(state: str, name: str, found: list[tuple[str, list[str]]]) -> str:
    """A line for a phone: SNS allows 100 printable ASCII characters."""
    names = [line.partition(":")[0] for _, lines in found for line in lines]
    names = [each for each in dict.fromkeys(names) if not each.startswith("(")]
    line = f"{state}: {name}" + (f": {', '.join(names)}" if names else "")
    line = line.encode("ascii", "replace").decode().replace("\n", " ")
    return line if len(line) <= SUBJECT_LIMIT else line[: SUBJECT_LIMIT - 3] + "..."


def message(alarm: Mapping[str, Any], found: list[tuple[str, list[str]]]) -> str:
    """Which alarm, about what, and where to read on."""
    lines = [f"{alarm['AlarmName']} is now {alarm['NewStateValue']}."]
    for child, names in found:
        lines += ["", f"{child} (docs/runbooks/{child}.md)"]
        lines += [f"  {name}" for name in names or ["(nothing more is known)"]]
    lines += ["", str(alarm.get("AlarmDescription") or "")]
    lines += [
        f"When:    {alarm.get('StateChangeTime')}",
        f"Where:   {alarm.get('Region')}",
        f"Reason:  {alarm.get('NewStateReason')}",
    ]
    return "\n".join(lines)
