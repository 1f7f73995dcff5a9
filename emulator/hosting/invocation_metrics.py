"""Metrics of the invocations that reach a container.

https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from emulator.hosting.context import HostingContext
from emulator.hosting.metrics import MetricStore


@dataclass
class InvocationOutcome:
    """Outcome of an invocation: the status of the container's answer, 0 without one."""

    status: int = 0


class InvocationMetrics:
    """Metrics of invocations, by endpoint and variant or by inference component.

    Args:
        context: Clock, account and containers.
        store: The metrics.
    """

    def __init__(self, context: HostingContext, store: MetricStore):
        self._context, self._store, self._in_progress = context, store, Counter[str]()

    @contextmanager
    def measured(
        self, endpoint: str, variant: str, component: str | None = None
    ) -> Iterator[InvocationOutcome]:
        """Record the metrics of the invocation that the block sends.

        Args:
            endpoint: Name of the endpoint.
            variant: Name of the variant.
            component: Name of the inference component, if there is one.
        """
        of: dict[str, str] = {"EndpointName": endpoint, "VariantName": variant}
        sets = [of, {"InferenceComponentName": component}] if component else [of]
        outcome, key = InvocationOutcome(), component or "/".join(of.values())
        with self._context.lock:
            self._in_progress[key] += 1
            concurrent = "ConcurrentRequestsPerCopy" if component else "ConcurrentRequestsPerModel"
            self._store.put(concurrent, self._in_progress[key], **sets[-1])
        began = time.monotonic()
        try:
            yield outcome
        finally:
            with self._context.lock:
                self._in_progress[key] -= 1
                for dimensions in sets:
                    self._record(outcome.status, time.monotonic() - began, dimensions)

    def _record(self, status: int, seconds: float, dimensions: Mapping[str, str]) -> None:
        put = self._store.put
        put("Invocations", 1, **dimensions)
        per = "PerCopy" if "InferenceComponentName" in dimensions else "PerInstance"
        put(f"Invocations{per}", 1, **dimensions)
        put("Invocation4XXErrors", float(400 <= status < 500), **dimensions)
        put("Invocation5XXErrors", float(not 200 <= status < 500), **dimensions)
        put("InvocationModelErrors", float(status != 200), **dimensions)
        put("ModelLatency", seconds * 1e6, **dimensions)  # in microseconds
