"""Provisioned throughput of Bedrock, of which each hour is billed."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from .rule import BilledResource, CallMetric


def list_throughputs(bedrock: Any, prefix: str, now: datetime) -> Iterator[BilledResource]:
    """Yield the throughputs whose names begin with the prefix of the environment.

    Args:
        bedrock: Client of Bedrock.
        prefix: The prefix.
        now: The time.
    """
    pages = bedrock.get_paginator("list_provisioned_model_throughputs").paginate(
        nameContains=prefix
    )
    for page in pages:
        for summary in page["provisionedModelSummaries"]:
            if summary["provisionedModelName"].startswith(f"{prefix}-"):
                yield _resource(bedrock, summary, now)


def _resource(bedrock: Any, summary: Mapping[str, Any], now: datetime) -> BilledResource:
    arn = summary["provisionedModelArn"]
    answer = bedrock.list_tags_for_resource(resourceARN=arn)
    settled = summary["status"] in ("InService", "Failed")
    return BilledResource(
        "throughput",
        arn,
        summary["creationTime"],
        {tag["key"]: tag["value"] for tag in answer.get("tags", [])},
        settled and not _is_committed(summary, now),
        (CallMetric("AWS/Bedrock", "Invocations", {"ModelId": arn}),),
    )


def _is_committed(summary: Mapping[str, Any], now: datetime) -> bool:
    """Return whether a throughput cannot be deleted yet: it is billed after its commitment, too."""
    end = summary.get("commitmentExpirationTime")
    return bool(summary.get("commitmentDuration")) and (end is None or now < end)


def delete_throughput(bedrock: Any, arn: str) -> bool:
    """Delete a throughput, and return True; False if Bedrock refuses."""
    try:
        bedrock.delete_provisioned_model_throughput(provisionedModelId=arn)
    except ClientError as error:
        # EventBridge Scheduler delivers at least once; a second delivery finds nothing to delete.
        return bool(error.response["Error"]["Code"] == "ResourceNotFoundException")
    return True
