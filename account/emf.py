"""CloudWatch's embedded metric format: a line of a log that becomes metrics.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

MAX_DIMENSIONS = 30
_MAX_METRICS = 100


def emf_line(
    namespace: str,
    dimensions: Mapping[str, str],
    metrics: Mapping[str, tuple[float, str]],
    *,
    properties: Mapping[str, Any] | None = None,
    timestamp_ms: int | None = None,
) -> str:
    """Return a line with metrics, without the line break.

    Args:
        namespace: Namespace of the metrics.
        dimensions: Their dimensions.
        metrics: Value and unit of each, by name.
        properties: Further fields of the line, by which logs can be searched.
        timestamp_ms: Time of the metrics in milliseconds; now if None.

    Raises:
        ValueError: CloudWatch takes at most 30 dimensions with a value each, and 100 metrics.
    """
    if len(dimensions) > MAX_DIMENSIONS or not all(dimensions.values()):
        raise ValueError(f"at most {MAX_DIMENSIONS} dimensions, each with a value")
    if len(metrics) > _MAX_METRICS:
        raise ValueError(f"at most {_MAX_METRICS} metrics in a line")
    line = {
        "_aws": {
            "Timestamp": int(time.time() * 1000) if timestamp_ms is None else timestamp_ms,
            "CloudWatchMetrics": [
                {
                    "Namespace": namespace,
                    "Dimensions": [[*dimensions]],
                    "Metrics": [{"Name": n, "Unit": unit} for n, (_, unit) in metrics.items()],
                }
            ],
        },
        **dimensions,
        **{name: value for name, (value, _) in metrics.items()},
        **(properties or {}),
    }
    return json.dumps(line)
