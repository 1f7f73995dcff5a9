"""What the service writes about a job: log lines, metrics, events."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
EVENT = "SageMaker Training Job State Change"


class LogSink:
    """CloudWatch and EventBridge for one job.

    Args:
        logs: Client of CloudWatch Logs.
        cloudwatch: Client of CloudWatch.
        events: Client of EventBridge.
        request: Of the job.
    """

    def __init__(self, logs: Any, cloudwatch: Any, events: Any, request: Mapping[str, Any]):
        self._logs, self._cloudwatch, self._events = logs, cloudwatch, events
        self._name = request["TrainingJobName"]
        definitions = request["AlgorithmSpecification"].get("MetricDefinitions", ())
        self._patterns = [(d["Name"], re.compile(d["Regex"])) for d in definitions]
        self.metrics: dict[str, dict[str, Any]] = {}

    def open_stream(self, host: str, attempt: int) -> str:
        """Make the log stream of one host and attempt, and return its name."""
        stream = f"{self._name}/{host}-{int(time.time())}{attempt}"
        with suppress(ClientError):  # the platform made the group already
            self._logs.create_log_group(logGroupName=LOG_GROUP)
        self._logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)
        return stream

    def write(self, stream: str, lines: Sequence[str]) -> None:
        """Write lines to a stream, and the metrics that its patterns find in them."""
        if not lines:
            return
        now = int(time.time() * 1000)
        self._logs.put_log_events(
            logGroupName=LOG_GROUP,
            logStreamName=stream,
            logEvents=[{"timestamp": now, "message": line or " "} for line in lines],
        )
        found = [
            (name, float(match[1]))
            for line in lines
            for name, pattern in self._patterns
            if (match := pattern.search(line)) and _is_number(match[1])
        ]
        for name, value in found:
            self.metrics[name] = {"MetricName": name, "Value": value, "Timestamp": time.time()}
        if found:
            self._cloudwatch.put_metric_data(
                Namespace=LOG_GROUP,
                MetricData=[
                    {
                        "MetricName": name,
                        "Value": value,
                        "Dimensions": [{"Name": "TrainingJobName", "Value": self._name}],
                    }
                    for name, value in found
                ],
            )

    def tell(self, described: Mapping[str, Any]) -> None:
        """Put a change of state on the bus, as the service does."""
        keys = (
            *("TrainingJobName", "TrainingJobArn", "TrainingJobStatus", "SecondaryStatus"),
            *("FailureReason", "HyperParameters", "RoleArn", "Tags"),
        )
        detail = {key: described[key] for key in keys if key in described}
        self._events.put_events(
            Entries=[
                {
                    "Source": "aws.sagemaker",
                    "DetailType": EVENT,
                    "Detail": json.dumps(detail),
                    "Resources": [described["TrainingJobArn"]],
                    "Time": datetime.now(UTC),
                }
            ]
        )


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False
