"""Faults that the checks find: their names, and how they become events."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ENTRIES_PER_CALL = 10
# Each is the name of an alarm, of its metric and of its runbook.
FAULTS = (
    "training-job-stuck",
    "training-job-slow",
    "training-job-pending",
    "cluster-job-failed",
    "loss-is-nan",
    "gpu-idle",
    "gpu-memory-full",
    "training-disk-full",
    "training-plan-ending",
    "endpoint-errors",
    "endpoint-latency",
    "bedrock-throttled",
    "bedrock-errors",
    "bedrock-latency",
    "alarm-path-broken",
)
# Published after all checks of a run; its absence is an alarm of its own.
HEARTBEAT = "monitor-silent"


@dataclass(frozen=True)
class Fault:
    """Fault of one resource, named like its alarm and runbook.

    Attributes:
        resource: Name of the job, endpoint, model or plan.
        fault: Name of the alarm.
        reason: What was measured.
    """

    resource: str
    fault: str
    reason: str


def publish_faults(events: Any, source: str, faults: Sequence[Fault]) -> None:
    """Put each fault on the event bus.

    Args:
        events: EventBridge client.
        source: Source of the events.
        faults: Faults to publish.

    Raises:
        RuntimeError: If EventBridge refuses an entry, so that Lambda retries the invocation.
    """
    entries = [
        {
            "Source": source,
            "DetailType": "Temper Fault",
            "Detail": json.dumps({"job": f.resource, "fault": f.fault, "reason": f.reason}),
        }
        for f in faults
    ]
    refused = 0
    for start in range(0, len(entries), ENTRIES_PER_CALL):
        answer = events.put_events(Entries=entries[start : start + ENTRIES_PER_CALL])
        refused += answer["FailedEntryCount"]
    if refused:
        raise RuntimeError(f"{refused} of {len(entries)} fault events were refused by EventBridge")
