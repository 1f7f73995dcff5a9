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
    """Clients of the services that a page is composed from."""

    dynamodb: Any
    cloudwatch: Any
    logs: Any
    sns: Any


def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """Run as the Lambda entry point, for messages of the topic of the alarms."""
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
    """Publish the state change of one composite alarm, with the names of what is affected.

    Args:
        alarm: Message of CloudWatch about the composite alarm.
        clients: Clients of the AWS services.
        prefix: Prefix of the environment, which begins the names of alarms.
        table: Name of the table of recent faults.
        topic: Topic that people subscribe to.
        lookups: By alarm, a Metrics Insights `query`, or the `group` and `pattern` of a log search.
        now: Seconds since the epoch.
    """
    name = str(alarm["AlarmName"]).removeprefix(f"{prefix}-")
    state = alarm["NewStateValue"]
    names_by_alarm: list[tuple[str, list[str]]] = []
    if state == "ALARM":
        for child in triggering_alarms(alarm, prefix):
            names_by_alarm.append(
                (child, _find_names(child, clients, table, lookups.get(child, {}), now))
            )
    clients.sns.publish(
        TopicArn=topic,
        Subject=subject(state, name, names_by_alarm),
        Message=message(alarm, names_by_alarm),
    )


def triggering_alarms(alarm: Mapping[str, Any], prefix: str) -> list[str]:
    """Return the names of the alarms that triggered a composite alarm.

    If the message does not list them, return all members of the composite alarm.
    """
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
    """Return one line for each affected resource, or a line that says why there is none."""
    try:
        names = [*_recent_faults(clients.dynamodb, table, child, now)]
        if not names and "query" in lookup:
            names = [*_names_in_metrics(clients.cloudwatch, lookup["query"], now)]
        if not names and "pattern" in lookup:
            names = [*_names_in_logs(clients.logs, lookup["group"], lookup["pattern"], now)]
    except Exception as error:
        # A page without names is still useful; a page that is not sent is not.
        sys.stderr.write(f"{child}: {error!r}\n")
        return [f"(the names could not be looked up: {type(error).__name__})"]
    return names[:MAX_NAMES]


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


def subject(state: str, name: str, names_by_alarm: list[tuple[str, list[str]]]) -> str:
    """Return the subject line of a page, within the limit of SNS: 100 printable ASCII characters.

    Args:
        state: State of the composite alarm.
        name: Its name without the prefix.
        names_by_alarm: Triggering alarms, each with the lines about what is affected.
    """
    names = [line.partition(":")[0] for _, lines in names_by_alarm for line in lines]
    names = [each for each in dict.fromkeys(names) if not each.startswith("(")]
    line = f"{state}: {name}" + (f": {', '.join(names)}" if names else "")
    line = line.encode("ascii", "replace").decode().replace("\n", " ")
    return line if len(line) <= SUBJECT_LIMIT else line[: SUBJECT_LIMIT - 3] + "..."


def message(alarm: Mapping[str, Any], names_by_alarm: list[tuple[str, list[str]]]) -> str:
    """Return the text: the alarm, what is affected, and which runbook to read."""
    lines = [f"{alarm['AlarmName']} is now {alarm['NewStateValue']}."]
    for child, names in names_by_alarm:
        lines += ["", f"{child} (docs/runbooks/{child}.md)"]
        lines += [f"  {name}" for name in names or ["(no further details)"]]
    lines += ["", str(alarm.get("AlarmDescription") or "")]
    lines += [
        f"When:    {alarm.get('StateChangeTime')}",
        f"Where:   {alarm.get('Region')}",
        f"Reason:  {alarm.get('NewStateReason')}",
    ]
    return "\n".join(lines)
