"""Metrics of calls: tokens, cost, latency, errors, in CloudWatch's embedded metric format."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TextIO

from account.emf import MAX_DIMENSIONS, emf_line
from client.chat import TokenUsage


@dataclass(frozen=True, slots=True)
class CallRecord:
    """Record of a call; it holds no text of it.

    Attributes:
        endpoint: Endpoint that answered, or the last that was asked.
        latency_s: Seconds until the answer was complete, or the call had failed.
        first_token_s: Seconds until the first part of a stream; None without a stream.
        usage: Tokens of the answer; none if it came from the cache.
        cost_usd: Its cost; None if the endpoint has no price.
        retries: Calls that were repeated.
        hedges: Calls that were sent a second time.
        fallbacks: Endpoints that were asked before and did not answer.
        from_cache: Whether the answer came from the response cache.
        masked_values: Values that were masked.
        error: Name of the error class; None if the call was answered.
    """

    endpoint: str
    latency_s: float
    first_token_s: float | None = None
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost_usd: float | None = None
    retries: int = 0
    hedges: int = 0
    fallbacks: int = 0
    from_cache: bool = False
    masked_values: int = 0
    error: str | None = None


RecordCall = Callable[[CallRecord], None]
"""Receives the record of each call."""


class EmfMetrics:
    """Writer of the metrics of calls, one JSON object a line.

    On Lambda, ECS with the `awslogs` driver and hosts with the CloudWatch agent, what is written
    to the log becomes metrics without a call to CloudWatch.

    Args:
        namespace: Namespace of the metrics.
        dimensions: Dimensions in addition to `Endpoint`, such as the application's name. Values
            that differ from call to call make a metric each, which is paid for: leave them out.
        stream: Where lines go; the standard output if it is left out.

    Raises:
        ValueError: CloudWatch takes at most 30 dimensions, each with a value.
    """

    def __init__(
        self,
        namespace: str = "Temper/Client",
        dimensions: Mapping[str, str] | None = None,
        stream: TextIO | None = None,
    ):
        self._namespace, self._stream = namespace, stream
        self._dimensions = dict(dimensions or {})
        if len(self._dimensions) >= MAX_DIMENSIONS or not all(self._dimensions.values()):
            raise ValueError(f"at most {MAX_DIMENSIONS - 1} dimensions, each with a value")

    def __call__(self, record: CallRecord) -> None:
        """Write the metrics of a call."""
        line = emf_line(
            self._namespace,
            {**self._dimensions, "Endpoint": record.endpoint},
            _metrics(record),
            properties={} if record.error is None else {"Error": record.error},
        )
        stream = self._stream or sys.stdout
        # One write, so that lines of threads do not mix.
        stream.write(line + "\n")
        stream.flush()


def _metrics(record: CallRecord) -> dict[str, tuple[float, str]]:
    """Return value and unit of each metric of a call."""
    metrics: dict[str, tuple[float, str]] = {
        "Calls": (1, "Count"),
        "Errors": (int(record.error is not None), "Count"),
        "Latency": (round(record.latency_s * 1000, 3), "Milliseconds"),
        "InputTokens": (record.usage.input, "Count"),
        "OutputTokens": (record.usage.output, "Count"),
        "CachedInputTokens": (record.usage.cached_input, "Count"),
        "CacheWriteTokens": (record.usage.cache_write, "Count"),
        "ResponseCacheHits": (int(record.from_cache), "Count"),
        "Retries": (record.retries, "Count"),
        "Hedges": (record.hedges, "Count"),
        "Fallbacks": (record.fallbacks, "Count"),
        "MaskedValues": (record.masked_values, "Count"),
    }
    if record.first_token_s is not None:
        metrics["TimeToFirstToken"] = (round(record.first_token_s * 1000, 3), "Milliseconds")
    if record.cost_usd is not None:
        metrics["CostUSD"] = (record.cost_usd, "None")
    return metrics
