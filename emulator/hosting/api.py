"""The emulated hosting as a whole: its parts, and the services that they add up to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emulator.aws_service import AwsService, Handler
from emulator.hosting.context import HostingContext
from emulator.hosting.endpoint_configs import EndpointConfigApi
from emulator.hosting.endpoints import EndpointApi
from emulator.hosting.invocations import InvocationApi
from emulator.hosting.models import ModelApi
from emulator.hosting.tagging import TagApi


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
        self.endpoints = EndpointApi(context, self.configs.table, lambda endpoint: [])
        self.invocations = InvocationApi(context, self.endpoints.table)
        self.operations: dict[str, Handler] = {
            **self.models.operations(),
            **self.configs.operations(),
            **self.endpoints.operations(),
            **TagApi(context, list_tags).operations(),
        }
        self.runtime = AwsService("sagemaker-runtime", self.invocations.operations())
        self.services = (self.runtime,)

    def close(self) -> None:
        """End every container and forget all resources."""
        with self.context.lock:
            for endpoint in self.endpoints.table:
                endpoint.end()
            for table in (self.models.table, self.configs.table, self.endpoints.table):
                table.clear()
            self.context.tags.clear()
