"""Removes provisioned throughput: all of it on a schedule, or what nobody called for hours.

What is committed cannot be deleted and is left; what is being created or updated is left for the
next time. One that fails does not keep the others alive.
"""

import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
from botocore.exceptions import ClientError


def handler(event: dict[str, Any], context: object) -> dict[str, list[str]]:
    """Lambda's entry; `event["only"]` is `all` or `idle`."""
    return undeploy(
        only=event["only"],
        bedrock=boto3.client("bedrock"),
        cloudwatch=boto3.client("cloudwatch"),
        prefix=os.environ["PREFIX"],
        namespace=os.environ["NAMESPACE"],
        idle_hours=int(os.environ["IDLE_HOURS"]),
        now=datetime.now(timezone.utc),  # noqa: UP017
    )


def undeploy(
    *,
    only: str,
    bedrock: Any,
    cloudwatch: Any,
    prefix: str,
    namespace: str,
    idle_hours: int,
    now: datetime,
) -> dict[str, list[str]]:
    """Deletes what may go; answers with what went, what stayed and what failed."""
    if only not in ("all", "idle"):
        raise ValueError(f"only: {only!r} is neither 'all' nor 'idle'")
    outcome: dict[str, list[str]] = {"deleted": [], "kept": [], "failed": []}
    idle = 0
    for throughput in list_throughputs(bedrock, prefix):
        arn = throughput["provisionedModelArn"]
        unused = is_idle(cloudwatch, throughput, idle_hours, now)
        idle += unused
        if not is_deletable(throughput) or (only == "idle" and not unused):
            outcome["kept"].append(arn)
            continue
        outcome[_delete(bedrock, arn)].append(arn)
    cloudwatch.put_metric_data(
        Namespace=namespace,
        MetricData=[
            {
                "MetricName": "bedrock-idle-throughput",
                "Value": idle - (len(outcome["deleted"]) if only == "idle" else 0),
                "Unit": "Count",
                "Timestamp": now,
            }
        ],
    )
    if outcome["failed"]:
        raise RuntimeError(f"could not delete {', '.join(outcome['failed'])}")
    return outcome


def list_throughputs(bedrock: Any, prefix: str) -> Iterator[dict[str, Any]]:
    """The list_throughputs whose names begin with our prefix."""
    pages = bedrock.get_paginator("list_provisioned_model_throughputs").paginate(
        nameContains=prefix
    )
    for page in pages:
        for summary in page["provisionedModelSummaries"]:
            if summary["provisionedModelName"].startswith(f"{prefix}-"):
                yield summary


def is_deletable(throughput: Mapping[str, Any]) -> bool:
    """Neither committed nor in the middle of something."""
    return not throughput.get("commitmentDuration") and throughput["status"] in (
        "InService",
        "Failed",
    )


def is_idle(cloudwatch: Any, throughput: Mapping[str, Any], hours: int, now: datetime) -> bool:
    """Nobody called it for so many hours, and it has existed that long."""
    since = now - timedelta(hours=hours)
    if throughput["creationTime"] > since:
        return False
    answer = cloudwatch.get_metric_data(
        MetricDataQueries=[
            {
                "Id": "calls",
                "MetricStat": {
                    "Metric": {
                        "Namespace": "AWS/Bedrock",
                        "MetricName": "Invocations",
                        "Dimensions": [
                            {"Name": "ModelId", "Value": throughput["provisionedModelArn"]}
                        ],
                    },
                    "Period": 3600,
                    "Stat": "Sum",
                },
            }
        ],
        StartTime=since,
        EndTime=now,
    )
    calls: float = sum(answer["MetricDataResults"][0]["Values"])
    return calls == 0


def _delete(bedrock: Any, arn: str) -> str:
    try:
        bedrock.delete_provisioned_model_throughput(provisionedModelId=arn)
    except ClientError as error:
        # Gone is what we wanted: a second delivery of the same schedule finds nothing.
        gone = error.response["Error"]["Code"] == "ResourceNotFoundException"
        return "deleted" if gone else "failed"
    return "deleted"
