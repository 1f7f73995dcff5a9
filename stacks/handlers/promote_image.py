"""Lambda function that promotes a scanned image to the one that jobs use.

Jobs use the image, by digest, in the parameter `/<prefix>/images/<kind>/uri`. If the scan failed or
has findings of a refused severity, the parameter stays as it is and an event reports the refusal.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import boto3

BLOCKING_SEVERITIES = {"CRITICAL": ("CRITICAL",), "HIGH": ("CRITICAL", "HIGH")}


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Run as the Lambda entry point, for the event `ECR Image Scan`."""
    return promote(
        event,
        ssm=boto3.client("ssm"),
        events=boto3.client("events"),
        prefix=os.environ["PREFIX"],
        refuse_from=os.environ["REFUSE_FROM"],
        source=os.environ["SOURCE"],
    )


def promote(
    event: Mapping[str, Any], *, ssm: Any, events: Any, prefix: str, refuse_from: str, source: str
) -> dict[str, Any]:
    """Write the URI of the image to its parameter, or refuse the image.

    Args:
        event: Event `ECR Image Scan`.
        ssm: Systems Manager client.
        events: EventBridge client.
        prefix: Prefix of the environment, which begins the names of repositories.
        refuse_from: Lowest severity that blocks promotion.
        source: Source of the event of a refusal.

    Returns:
        Whether the image was promoted, and why not if it was refused.
    """
    detail = event["detail"]
    repository, digest = detail["repository-name"], detail["image-digest"]
    image = f"{event['account']}.dkr.ecr.{event['region']}.amazonaws.com/{repository}@{digest}"
    if not detail.get("image-tags"):
        return {"promoted": False, "why": "untagged"}
    counts = detail.get("finding-severity-counts", {})
    blocking = {
        level: counts[level] for level in BLOCKING_SEVERITIES[refuse_from] if counts.get(level)
    }
    if detail["scan-status"] != "COMPLETE" or blocking:
        why = f"scan {detail['scan-status']}, findings {blocking or 'unknown'}"
        _refuse(events, source, image, why)
        return {"promoted": False, "why": why}
    kind = repository.removeprefix(f"{prefix}/")
    ssm.put_parameter(
        Name=f"/{prefix}/images/{kind}/uri", Value=image, Type="String", Overwrite=True
    )
    return {"promoted": True, "image": image}


def _refuse(events: Any, source: str, image: str, why: str) -> None:
    answer = events.put_events(
        Entries=[
            {
                "Source": source,
                "DetailType": "Temper Fault",
                "Detail": json.dumps(
                    {"image": image, "fault": "image-scan-findings", "reason": why}
                ),
            }
        ]
    )
    if answer["FailedEntryCount"]:
        raise RuntimeError(f"{image} was refused ({why}), and EventBridge did not take the news")
