"""Reading of CloudWatch metrics: many queries in few calls."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

QUERIES_PER_CALL = 500


@dataclass
class Series:
    """Datapoints of one metric, newest first."""

    values: list[float] = field(default_factory=list)
    timestamps: list[datetime] = field(default_factory=list)

    def age_minutes(self, now: datetime) -> float | None:
        """Return the minutes since the newest datapoint; None without datapoints."""
        return (now - self.timestamps[0]).total_seconds() / 60 if self.timestamps else None


def metric_query(
    namespace: str,
    metric: str,
    dimensions: Mapping[str, str],
    *,
    statistic: str = "Average",
    period: int = 60,
) -> dict[str, Any]:
    """Return a query of GetMetricData, without its id.

    Args:
        namespace: Namespace of the metric.
        metric: Name of the metric.
        dimensions: Its dimensions.
        statistic: Statistic.
        period: Period in seconds.
    """
    return {
        "MetricStat": {
            "Metric": {
                "Namespace": namespace,
                "MetricName": metric,
                "Dimensions": [{"Name": n, "Value": v} for n, v in dimensions.items()],
            },
            "Period": period,
            "Stat": statistic,
        }
    }


def read_series(
    cloudwatch: Any, queries: Mapping[str, dict[str, Any]], start: datetime, end: datetime
) -> dict[str, Series]:
    """Return the datapoints of each query by its key.

    Args:
        cloudwatch: CloudWatch client.
        queries: Queries of `metric_query`, by key.
        start: Begin of the time range.
        end: End of the time range.
    """
    keys = list(queries)
    numbered = [{"Id": f"q{i}", **queries[key]} for i, key in enumerate(keys)]
    series = {key: Series() for key in keys}
    for first in range(0, len(numbered), QUERIES_PER_CALL):
        pages = cloudwatch.get_paginator("get_metric_data").paginate(
            MetricDataQueries=numbered[first : first + QUERIES_PER_CALL],
            StartTime=start,
            EndTime=end,
            ScanBy="TimestampDescending",
        )
        for page in pages:
            for result in page["MetricDataResults"]:
                found = series[keys[int(result["Id"][1:])]]
                found.values += result["Values"]
                found.timestamps += result["Timestamps"]
    return series
