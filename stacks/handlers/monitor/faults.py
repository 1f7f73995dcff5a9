"""Faults that the checks find: their names, and how they become events."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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
    event: ClassVar[str] = "Temper Fault"

    def detail(self) -> dict[str, str]:
        """Return the detail of the event."""
        return {"job": self.resource, "fault": self.fault, "reason": self.reason}


def publish_events(
    events: Any, source: str, findings: Sequence[tuple[str, Mapping[str, str]]]
) -> None:
    """Put each finding on the event bus.

    Args:
        events: EventBridge client.
        source: Source of the events.
        findings: Type and detail of each event.

    Raises:
        RuntimeError: If EventBridge refuses an entry, so that Lambda retries the invocation.
    """
    entries = [
        {"Source": source, "DetailType": kind, "Detail": json.dumps(detail)}
        for kind, detail in findings
    ]
    refused = 0
    for start in range(0, len(entries), ENTRIES_PER_CALL):
        answer = events.put_events(Entries=entries[start : start + ENTRIES_PER_CALL])
        refused += answer["FailedEntryCount"]
    if refused:
        raise RuntimeError(f"{refused} of {len(entries)} events were refused by EventBridge")
