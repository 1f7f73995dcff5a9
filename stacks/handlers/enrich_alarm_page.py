"""Page people about an alarm, with the names of the affected jobs, endpoints, models or nodes.

CloudWatch's own message only names the alarm. The names come from the table of faults that
`publish_event` recorded recently. A lookup that fails never holds a page back.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import boto3

from .page_message import publish_page

# A fault that lasts is recorded again every five minutes; an alarm comes a few minutes later.
RECENT_SECONDS = 20 * 60
# This alarm counts over an hour.
RECENT_SECONDS_OF = {"training-job-failed": 70 * 60}
MAX_NAMES = 10


@dataclass(frozen=True)
class PageSettings:
    """Settings of the function.

    Attributes:
        prefix: Prefix of the environment, which begins the names of alarms.
        table: Name of the table of recent faults.
        topic: Topic that people subscribe to.
    """

    prefix: str
    table: str
    topic: str


def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """Run as the Lambda entry point, for messages of the topic of the alarms."""
    settings = PageSettings(os.environ["PREFIX"], os.environ["TABLE"], os.environ["TOPIC"])
    for record in event["Records"]:
        page(
            json.loads(record["Sns"]["Message"]),
            dynamodb=boto3.client("dynamodb"),
            sns=boto3.client("sns"),
            settings=settings,
            now=int(time.time()),
        )
    return {"paged": len(event["Records"])}


def page(
    alarm: Mapping[str, Any], *, dynamodb: Any, sns: Any, settings: PageSettings, now: int
) -> None:
    """Publish the state change of one alarm, with the names of what is affected.

    Args:
        alarm: Message of CloudWatch about the alarm.
        dynamodb: DynamoDB client.
        sns: SNS client.
        settings: Settings of the function.
        now: Seconds since the epoch.
    """
    name = str(alarm["AlarmName"]).removeprefix(f"{settings.prefix}-")
    names = find_names(name, dynamodb, settings.table, now)
    publish_page(sns, settings.topic, alarm, runbook=name, names=names)


def find_names(alarm: str, dynamodb: Any, table: str, now: int) -> list[str]:
    """Return one line for each affected resource, or a line that says why there is none.

    Args:
        alarm: Name of the alarm without the prefix.
        dynamodb: DynamoDB client.
        table: Name of the table of recent faults.
        now: Seconds since the epoch.
    """
    try:
        return [*_recent_faults(dynamodb, table, alarm, now)][:MAX_NAMES]
    except Exception as error:
        # A page without names is still useful; a page that is not sent is not.
        sys.stderr.write(f"{alarm}: {error!r}\n")
        return [f"(the names could not be looked up: {type(error).__name__})"]


def _recent_faults(dynamodb: Any, table: str, alarm: str, now: int) -> Iterator[str]:
    key = {"fingerprint": {"S": f"recent:{alarm}"}}
    item = dynamodb.get_item(TableName=table, Key=key).get("Item", {})
    faults = item.get("what", {}).get("M", {})
    newest = sorted(faults.items(), key=lambda each: -int(each[1]["M"]["time"]["N"]))
    for name, fault in newest:
        if now - int(fault["M"]["time"]["N"]) <= RECENT_SECONDS_OF.get(alarm, RECENT_SECONDS):
            reason = fault["M"]["reason"]["S"]
            yield f"{name}: {reason}" if reason else name
