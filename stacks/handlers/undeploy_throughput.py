"""Lambda function that removes provisioned throughput: all of it, or what has been idle for hours.

Throughput with a commitment cannot be deleted and is left; what is being created or updated is left
for the next run. A failed deletion does not prevent the others.
"""

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
from botocore.exceptions import ClientError


def handler(event: dict[str, Any], context: object) -> dict[str, list[str]]:
    """Run as the Lambda entry point; `event["only"]` is `all` or `idle`."""
    return undeploy(
        only=event["only"],
        bedrock=boto3.client("bedrock"),
        cloudwatch=boto3.client("cloudwatch"),
        prefix=os.environ["PREFIX"],
        namespace=os.environ["NAMESPACE"],
        idle_hours=int(os.environ["IDLE_HOURS"]),
        now=datetime.now(UTC),
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
    """Delete the throughput that can be deleted.

    Args:
        only: `all`, or `idle` for throughput without calls.
        bedrock: Bedrock client.
        cloudwatch: CloudWatch client.
        prefix: Prefix of the environment, which begins the names of throughputs.
        namespace: Namespace of the metric for idle throughput.
        idle_hours: Hours without calls after which throughput is idle.
        now: Current time.

    Returns:
        ARNs that were deleted, kept, and failed to be deleted.

    Raises:
        ValueError: If `only` is neither `all` nor `idle`.
        RuntimeError: If a deletion failed.
    """
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
    """Yield the throughputs whose names begin with the prefix of the environment."""
    pages = bedrock.get_paginator("list_provisioned_model_throughputs").paginate(
        nameContains=prefix
    )
    for page in pages:
        for summary in page["provisionedModelSummaries"]:
            if summary["provisionedModelName"].startswith(f"{prefix}-"):
                yield summary


def is_deletable(throughput: Mapping[str, Any]) -> bool:
    """Return whether a throughput has no commitment and is not being changed."""
    return not throughput.get("commitmentDuration") and throughput["status"] in (
        "InService",
        "Failed",
    )


def is_idle(cloudwatch: Any, throughput: Mapping[str, Any], hours: int, now: datetime) -> bool:
    """Return whether a throughput existed for `hours` and was not called in that time.

    Args:
        cloudwatch: CloudWatch client.
        throughput: Summary of the throughput by Bedrock.
        hours: Hours without calls.
        now: Current time.
    """
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
        # EventBridge Scheduler delivers at least once; a second delivery finds nothing to delete.
        gone = error.response["Error"]["Code"] == "ResourceNotFoundException"
        return "deleted" if gone else "failed"
    return "deleted"
