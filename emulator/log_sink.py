"""Log lines, metrics and state-change events that the service writes about a job."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

from botocore.exceptions import ClientError

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
JobKind = Literal["Training", "Processing"]


class LogSink:
    """Writer of one job's log lines, metrics and events.

    Args:
        logs: boto3 client of `logs`.
        cloudwatch: boto3 client of `cloudwatch`.
        events: boto3 client of `events`.
        request: Request that created the job.
        kind: Kind of the job.
    """

    def __init__(
        self,
        logs: Any,
        cloudwatch: Any,
        events: Any,
        request: Mapping[str, Any],
        kind: JobKind = "Training",
    ):
        self._logs, self._cloudwatch, self._events = logs, cloudwatch, events
        self._kind, self._group = kind, f"/aws/sagemaker/{kind}Jobs"
        self._name = request[f"{kind}JobName"]
        definitions = request.get("AlgorithmSpecification", {}).get("MetricDefinitions", ())
        self._patterns = [(d["Name"], re.compile(d["Regex"])) for d in definitions]
        self.metrics: dict[str, dict[str, Any]] = {}

    def open_stream(self, host: str, attempt: int) -> str:
        """Create the log stream of one host and attempt, and return its name."""
        stream = f"{self._name}/{host}-{int(time.time())}{attempt}"
        with suppress(ClientError):  # the platform has created the group already
            self._logs.create_log_group(logGroupName=self._group)
        self._logs.create_log_stream(logGroupName=self._group, logStreamName=stream)
        return stream

    def write(self, stream: str, lines: Sequence[str]) -> None:
        """Write lines to a stream, and the metrics that the job's patterns find in them."""
        if not lines:
            return
        now = int(time.time() * 1000)
        self._logs.put_log_events(
            logGroupName=self._group,
            logStreamName=stream,
            logEvents=[{"timestamp": now, "message": line or " "} for line in lines],
        )
        values = [
            (name, float(match[1]))
            for line in lines
            for name, pattern in self._patterns
            if (match := pattern.search(line)) and _is_number(match[1])
        ]
        for name, value in values:
            self.metrics[name] = {"MetricName": name, "Value": value, "Timestamp": time.time()}
        if values:
            self._cloudwatch.put_metric_data(
                Namespace=self._group,
                MetricData=[
                    {
                        "MetricName": name,
                        "Value": value,
                        "Dimensions": [{"Name": "TrainingJobName", "Value": self._name}],
                    }
                    for name, value in values
                ],
            )

    def publish_state(self, description: Mapping[str, Any]) -> None:
        """Publish a state change on the event bus, with the fields that the service includes."""
        keys = (
            *(f"{self._kind}Job{part}" for part in ("Name", "Arn", "Status")),
            *("SecondaryStatus", "FailureReason", "ExitMessage", "HyperParameters"),
            *("RoleArn", "Tags"),
        )
        detail = {key: description[key] for key in keys if key in description}
        self._events.put_events(
            Entries=[
                {
                    "Source": "aws.sagemaker",
                    "DetailType": f"SageMaker {self._kind} Job State Change",
                    "Detail": json.dumps(detail),
                    "Resources": [description[f"{self._kind}JobArn"]],
                    "Time": datetime.now(UTC),
                }
            ]
        )


def _is_number(text: str) -> bool:
    """Return whether a text is a number, and not NaN, which CloudWatch rejects."""
    try:
        return float(text) == float(text)
    except ValueError:
        return False
