"""Lambda function that turns health-agent faults in the log of a HyperPod cluster into events.

With Slurm, HyperPod sends no event for a GPU fault that the health agent detects; the agent only
writes it to the log group of the cluster. A subscription filter delivers those lines here.
"""

import base64
import gzip
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import boto3

ENTRIES_PER_CALL = 10
ATTEMPTS = 3
DETAIL_TYPE = "SageMaker HyperPod Cluster Node Health Event"


def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """Run as the Lambda entry point."""
    return forward_health_events(
        event,
        events=boto3.client("events"),
        source=os.environ["SOURCE"],
        cluster=os.environ["CLUSTER"],
    )


def forward_health_events(
    event: Mapping[str, Any], *, events: Any, source: str, cluster: str
) -> dict[str, int]:
    """Put one event on the bus for each log line with a fault.

    Args:
        event: CloudWatch Logs subscription event, whose data is gzipped and base64-encoded.
        events: EventBridge client.
        source: Source of the events.
        cluster: Name of the cluster.

    Returns:
        Numbers of events sent and of lines skipped.
    """
    batch = json.loads(gzip.decompress(base64.b64decode(event["awslogs"]["data"])))
    if batch["messageType"] != "DATA_MESSAGE":
        return {"sent": 0, "skipped": 0}  # CloudWatch Logs tests the subscription
    entries, skipped = [], 0
    for line in batch["logEvents"]:
        fault = _parse_fault(line["message"])
        if fault is None:
            skipped += 1
            continue
        entries.append(
            {
                "Source": source,
                "DetailType": DETAIL_TYPE,
                "Detail": json.dumps(
                    {
                        "ClusterName": cluster,
                        "HealthStatus": "Unhealthy",
                        "InstanceId": batch["logStream"].rpartition("/")[2],
                        "HealthStatusReason": fault.get("reason") or line["message"][:500],
                        "LogStream": batch["logStream"],
                    }
                ),
            }
        )
    send(events, entries)
    return {"sent": len(entries), "skipped": skipped}


def send(events: Any, entries: Sequence[dict[str, Any]]) -> None:
    """Put all entries on the bus, and retry those that are refused.

    Raises:
        RuntimeError: If entries are still refused after the last attempt.
    """
    pending = list(entries)
    for _ in range(ATTEMPTS):
        refused = []
        for start in range(0, len(pending), ENTRIES_PER_CALL):
            chunk = pending[start : start + ENTRIES_PER_CALL]
            response = events.put_events(Entries=chunk)
            results = zip(chunk, response["Entries"], strict=True)
            refused += [entry for entry, result in results if "ErrorCode" in result]
        pending = refused
        if not pending:
            return
    raise RuntimeError(f"EventBridge refused {len(pending)} health events {ATTEMPTS} times")


def _parse_fault(message: str) -> dict[str, Any] | None:
    try:
        fields = json.loads(message)
    except ValueError:
        return None
    if (
        isinstance(fields, dict)
        and fields.get("HealthMonitoringAgentDetectionEvent") == "HealthEvent"
    ):
        return fields
    return None
