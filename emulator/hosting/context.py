"""Context of the emulated hosting: clock, account, containers, timings, faults."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from emulator.clock import Clock
from emulator.instance import ContainerRuntime
from emulator.moto_account import ACCOUNT
from emulator.request_validation import Client


@dataclass(frozen=True)
class HostingTimings:
    """Delays and periods of the emulated hosting, in seconds of its clock.

    Attributes:
        provision_s: Until new instances run the container.
        ping_s: Between two health checks of a container that starts.
        health_s: Until a container must answer `/ping`, if the request names no limit.
        shift_s: Until traffic has moved to other instances.
        alarm_s: Between two looks at the alarms of a deployment.
        watch_s: Between two evaluations of alarms and of scaling.
        release_s: Until deleted instances are gone.
        queue_s: Between two looks at the queue of asynchronous requests.
        capture_s: Between a captured call and its delivery to S3.
    """

    provision_s: float = 120.0
    ping_s: float = 5.0
    health_s: float = 480.0
    shift_s: float = 10.0
    alarm_s: float = 10.0
    watch_s: float = 30.0
    release_s: float = 30.0
    queue_s: float = 5.0
    capture_s: float = 60.0


@dataclass
class HostingFaults:
    """Faults to inject.

    Attributes:
        no_capacity: Instance types of which the service has none left.
        silent_rollbacks: Number of updates that are rolled back after the shift of traffic, without
            a reason.
        refused_adapters: Words with which containers refuse the next adapters.
        mute_models: Models whose container runs and never answers a health check.
        gated: Prefixes `s3://…` of models whose license must be accepted.
        quotas: Allowed number of instances by type; types that are missing are unlimited.
    """

    no_capacity: set[str] = field(default_factory=set)
    silent_rollbacks: int = 0
    refused_adapters: list[str] = field(default_factory=list)
    mute_models: set[str] = field(default_factory=set)
    gated: tuple[str, ...] = ()
    quotas: dict[str, int] = field(default_factory=dict)


class StartingContainer(Protocol):
    """Container that has been started."""

    mute: bool

    @property
    def has_ended(self) -> bool:
        """True if the container's process has ended."""

    def is_healthy(self) -> bool:
        """Return whether the container answers its health check."""


@dataclass
class HostingContext:
    """Clock, account and containers that all parts of the emulated hosting use.

    Attributes:
        client: Returns the boto3 client of a service of the emulated account.
        region: Region of the service.
        home: Folder for the disks of its machines.
        runtime: Runs the containers.
        clock: Clock of the service.
        timings: Delays and periods.
        faults: Faults to inject.
        lock: Held while the state is read or changed.
        tags: Tags of each resource, by its ARN.
        starting: Containers that have been started and are not healthy yet.
        when_hosting: Is called when an endpoint is created.
    """

    client: Client
    region: str
    home: Path
    runtime: ContainerRuntime
    clock: Clock
    timings: HostingTimings = field(default_factory=HostingTimings)
    faults: HostingFaults = field(default_factory=HostingFaults)
    lock: threading.RLock = field(default_factory=threading.RLock)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    starting: list[StartingContainer] = field(default_factory=list)
    when_hosting: Callable[[], None] = lambda: None

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a resource, such as `endpoint`."""
        return f"arn:aws:sagemaker:{self.region}:{ACCOUNT}:{kind}/{name}"

    def tags_of(self, arn: str) -> list[dict[str, str]]:
        """Return the tags of a resource as the API has them."""
        return [{"Key": key, "Value": value} for key, value in self.tags.get(arn, {}).items()]

    def later(self, delay: float, callback: Callable[[], None]) -> None:
        """Run a callback after a delay of the clock, with the lock held."""

        def run() -> None:
            with self.lock:
                callback()

        self.clock.call_later(delay, run)

    def await_containers(self, timeout_s: float = 60.0) -> None:
        """Wait until every container that was started is healthy, has ended, or is to be mute.

        A clock that a test advances would otherwise outrun the start of a process.
        """
        deadline = time.monotonic() + timeout_s
        for server in list(self.starting):
            while not (server.mute or server.has_ended or server.is_healthy()):
                if time.monotonic() > deadline:
                    return
                time.sleep(0.005)

    def publish(self, kind: str, arn: str, detail: Mapping[str, Any]) -> None:
        """Publish a state change on the event bus.

        https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html

        Args:
            kind: Kind of the resource, such as `Endpoint`.
            arn: ARN of the resource.
            detail: Description of the resource.
        """
        entry = {
            "Source": "aws.sagemaker",
            "DetailType": f"SageMaker {kind} State Change",
            "Detail": json.dumps(detail, default=str),
            "Resources": [arn],
            "Time": datetime.fromtimestamp(self.clock.now(), UTC),
        }
        self.client("events").put_events(Entries=[entry])
