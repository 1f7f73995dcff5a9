"""Instances of a variant: their provisioning, the container on them, their release."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from emulator.hosting.context import HostingContext
from emulator.hosting.model_server import ModelDataError, ModelServer
from emulator.hosting.models import EmulatedModel

Finished = Callable[[str], None]
"""Receives the reason of a failure, or an empty text."""


class Fleet:
    """Instances of one variant under one configuration.

    Args:
        context: Clock, account and containers.
        endpoint: Name of the endpoint.
        variant: The variant, as the configuration has it.
        model: Its model; None if inference components run on it.
        generation: Number of the endpoint's deployment, to name its folder.

    Attributes:
        count: Number of instances that run.
        server: The container, if there is a model.
    """

    def __init__(
        self,
        context: HostingContext,
        endpoint: str,
        variant: Mapping[str, Any],
        model: EmulatedModel | None,
        generation: int,
    ):
        self._context, self.variant, self.model = context, variant, model
        self.count = 0
        self.server: ModelServer | None = None
        self._ended = False
        if model is not None:
            self.server = ModelServer(
                context,
                f"endpoints/{endpoint}-{generation}-{self.name}",
                model.container,
                (f"/aws/sagemaker/Endpoints/{endpoint}", f"{self.name}/i-{generation:017x}"),
                mute=model.request["ModelName"] in context.faults.mute_models,
            )

    @property
    def name(self) -> str:
        """Name of the variant."""
        return str(self.variant["VariantName"])

    @property
    def instance_type(self) -> str:
        """Type of the instances."""
        return str(self.variant["InstanceType"])

    def start(self, count: int, finished: Finished) -> None:
        """Provision instances or release some, run the container, and report the outcome.

        Args:
            count: Number of instances; without any, the container ends.
            finished: Is called, with the lock held, when the fleet is ready or has failed.
        """
        if count > self.count and self.instance_type in self._context.faults.no_capacity:
            self._context.later(self._context.timings.provision_s, lambda: finished(NO_CAPACITY))
            return

        def provisioned() -> None:
            if self._ended:
                return
            runs, self.count = self.count > 0, count
            if self.server is None or runs:
                if self.server is not None and count == 0:
                    self.server.stop()
                finished("")
            elif count:
                start_server(self._context, self.server, self.variant, self.name, finished)
            else:
                finished("")

        self._context.later(self._context.timings.provision_s, provisioned)

    def end(self) -> None:
        """Release the instances and end their container."""
        self._ended, self.count = True, 0
        if self.server is not None:
            self.server.stop()


NO_CAPACITY = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. "
    "Please retry using a different ML instance type or after some time."
)


def start_server(
    context: HostingContext,
    server: ModelServer,
    limits: Mapping[str, Any],
    place: str,
    finished: Finished,
) -> None:
    """Start a container, check its health, and report when it is healthy or has failed.

    https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html

    Args:
        context: Clock, account and containers.
        server: The container.
        limits: Fields that may have `ContainerStartupHealthCheckTimeoutInSeconds`.
        place: Name of the variant or component, for messages.
        finished: Is called, with the lock held, at the end.
    """
    try:
        server.download()
        server.start()
    except ModelDataError as error:
        finished(f"Failed to download model data for the container of {place}: {error}"[:1024])
        return
    context.starting.append(server)
    timings, key = context.timings, "ContainerStartupHealthCheckTimeoutInSeconds"
    deadline = context.clock.now() + limits.get(key, timings.health_s) * context.clock.speed

    def finish(reason: str) -> None:
        context.starting.remove(server)
        server.is_ready = not reason
        finished(reason)

    def check() -> None:
        if server.is_healthy():
            finish("")
        # AWS starts a container that has ended again until the limit, and then fails in this way.
        elif server.has_ended or context.clock.now() >= deadline:
            finish(
                f"The primary container for production variant {place} did not pass the ping "
                "health check. Please check CloudWatch logs for this endpoint."
            )
        else:
            context.later(timings.ping_s * context.clock.speed, check)

    check()
