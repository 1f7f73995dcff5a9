"""The emulated hosting as a whole: its parts, and the services that they add up to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emulator.aws_service import AwsService, Handler
from emulator.hosting.async_invocations import AsyncInvocationApi
from emulator.hosting.autoscaling import AutoscalingApi
from emulator.hosting.components import ComponentApi
from emulator.hosting.context import HostingContext, HostingFaults
from emulator.hosting.endpoint_configs import EndpointConfigApi
from emulator.hosting.endpoints import EndpointApi
from emulator.hosting.invocations import InvocationApi
from emulator.hosting.metrics import AlarmEvaluator, MetricStore
from emulator.hosting.models import ModelApi
from emulator.hosting.tagging import TagApi
from emulator.hosting.transform import TransformApi

_START_S = 300.0


class Hosting:
    """Emulated hosting of models.

    Args:
        context: Clock, account and containers.
        list_tags: Returns the response of ListTags for resources of other parts.

    Attributes:
        operations: Operations of SageMaker that it adds.
        services: Further services.
        runtime: The service that invokes endpoints.
    """

    def __init__(
        self, context: HostingContext, list_tags: Callable[[dict[str, Any]], dict[str, Any]]
    ):
        self.context = context
        self.models = ModelApi(context)
        self.configs = EndpointConfigApi(context, self.models.table)
        self.endpoints = EndpointApi(
            context,
            self.configs.table,
            lambda endpoint: [component.name for component in self.components.on(endpoint)],
        )
        self.components = ComponentApi(context, self.models, self.endpoints.table)
        self.metrics = MetricStore(context)
        self.invocations = InvocationApi(
            context, self.endpoints.table, self.components.table, self.metrics
        )
        self.queues = AsyncInvocationApi(context, self.endpoints.table, self.metrics)
        self.transform = TransformApi(context, self.models.table)
        self.autoscaling = AutoscalingApi(context, self.endpoints, self.components, self.metrics)
        self._alarms = AlarmEvaluator(context, self.metrics, self.autoscaling.act)
        self._watches = False
        self._closed = 0  # how often `close` has been called
        self.operations: dict[str, Handler] = {
            **self.models.operations(),
            **self.configs.operations(),
            **self.endpoints.operations(),
            **self.components.operations(),
            **self.transform.operations(),
            **TagApi(context, list_tags).operations(),
        }
        self.runtime = AwsService(
            "sagemaker-runtime", {**self.invocations.operations(), **self.queues.operations()}
        )
        self.services = (self.runtime, self.autoscaling.service)
        context.when_hosting = self._watch

    def _watch(self) -> None:
        """Evaluate alarms and scaling from now on, while there are endpoints."""
        if not self._watches:
            self._watches = True
            self._tick(self._closed)

    def _tick(self, closed: int) -> None:
        if closed != self._closed:  # it was due when all was closed
            return
        self._watches = any(True for _ in self.endpoints.table)
        if not self.metrics.is_empty:
            self._alarms.evaluate()
        self.autoscaling.track()
        if self._watches:
            self.context.later(self.context.timings.watch_s, lambda: self._tick(closed))

    def settle(self) -> None:
        """Wait for what takes this machine's time: starts of containers, and their answers."""
        self.context.await_containers(_START_S)
        self.queues.join()
        self.invocations.shadow.join()
        for job in list(self.transform.table):
            job.join()

    def close(self) -> None:
        """End every container, and forget all resources and faults."""
        with self.context.lock:
            self._watches = False
            self._closed += 1
            for endpoint in self.endpoints.table:
                endpoint.end()
            for component in self.components.table:
                if component.copies:
                    component.copies.end()
                if component.deployment:
                    component.deployment.cancel()
            self.components.table.clear()
            for job in self.transform.table:
                job.end()
            self.transform.table.clear()
            self.queues.clear()
            self.invocations.clear()
            self.metrics.clear()
            self.autoscaling.clear()
            for table in (self.models.table, self.configs.table, self.endpoints.table):
                table.clear()
            self.context.tags.clear()
            self.context.faults = HostingFaults()
