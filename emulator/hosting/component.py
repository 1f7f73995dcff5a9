"""One inference component: copies of a model, or an adapter on another component."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emulator.hosting.context import HostingContext
from emulator.hosting.deployment import TrafficShift
from emulator.hosting.fleet import Finished, start_server
from emulator.hosting.model_server import ModelDataError, ModelServer

ADAPTER_HEADER = "X-Amzn-SageMaker-Adapter-Identifier"
_ADAPTERS = "/opt/ml/adapters"

Place = Callable[[int, Finished], None]
"""Makes room for a number of copies, and reports a lack of it."""


class CopySet:
    """Copies of a component under one specification. One process answers for all.

    Args:
        context: Clock, account and containers.
        name: Name of the component.
        container: Image, place of the model's files, variables.
        limits: Limits of the start.
        place: Makes room for copies.
        log: Log group and stream.
        generation: Number of the specification.

    Attributes:
        count: Number of copies that run.
        server: The container.
        adapters: Address of each adapter that is loaded.
    """

    def __init__(
        self,
        context: HostingContext,
        name: str,
        container: Mapping[str, Any],
        limits: Mapping[str, Any],
        place: Place,
        log: tuple[str, str],
        generation: int,
    ):
        self._context, self._name, self._limits, self._place = context, name, limits, place
        self.count = 0
        self.adapters: dict[str, str] = {}
        self._ended = False
        self.server = ModelServer(
            context,
            f"components/{name}-{generation}",
            container,
            log,
            mute=name in context.faults.mute_models,
        )

    def start(self, count: int, finished: Finished) -> None:
        """Place copies, start their container, and report the outcome."""

        def placed(reason: str) -> None:
            if self._ended:
                return
            runs = self.count > 0
            if reason:
                finished(reason)
            elif count == 0 or runs:
                self.count = count
                if count == 0:
                    self.server.stop()
                finished("")
            else:
                start_server(self._context, self.server, self._limits, self._name, started)

        def started(reason: str) -> None:
            if not reason:
                reason = next(filter(None, map(self._load, list(self.adapters))), "")
            self.count = 0 if reason else count
            finished(reason)

        self._place(count, placed)

    def end(self) -> None:
        """End the copies."""
        self._ended, self.count = True, 0
        self.server.stop()

    def add_adapter(self, name: str, address: str) -> str:
        """Download an adapter and load it; return the reason of a failure.

        https://github.com/aws/model-hosting-container-standards

        Args:
            name: Name of the adapter's component.
            address: Address of its archive, or of a prefix of its files.
        """
        self.adapters[name] = address
        reason = self._load(name) if self.count else ""
        if reason:
            del self.adapters[name]
            shutil.rmtree(self._folder(name), ignore_errors=True)
        return reason

    def _folder(self, name: str) -> Path:
        return self.server.ml / "adapters" / name

    def _load(self, name: str) -> str:
        address, folder = self.adapters[name], self._folder(name)
        try:
            if not folder.exists():
                self.server.fetch(address, folder, packed=address.endswith(".tar.gz"))
        except ModelDataError as error:
            return f"Failed to download the adapter: {error}"
        faults = self.server.context.faults
        if faults.refused_adapters:
            return (
                f"The container did not load the adapter {name}: {faults.refused_adapters.pop(0)}"
            )
        body = json.dumps({"name": name, "src": f"{_ADAPTERS}/{name}"}).encode()
        headers = {"Content-Type": "application/json"}
        answer = self.server.request("POST", "/adapters", body, headers)
        if answer.status == 200:
            return ""
        reason = answer.body.decode(errors="replace")[:800]
        return f"The container did not load the adapter {name} ({answer.status}): {reason}"

    def remove_adapter(self, name: str) -> None:
        """Unload an adapter, and delete its files."""
        if self.adapters.pop(name, None) and self.count:
            self.server.request("DELETE", f"/adapters/{name}")
        shutil.rmtree(self._folder(name), ignore_errors=True)


class EmulatedComponent:
    """Inference component.

    Attributes:
        request: Parameters of its creation, with the specification that is in use.
        status: Status of the component.
        failure: Reason of a failure.
        copies: Its copies; None for an adapter.
        base: The component that an adapter is on.
        desired: Number of copies that should run.
        deployment: Update in progress.
    """

    def __init__(
        self,
        context: HostingContext,
        request: Mapping[str, Any],
        arn: str,
        *,
        copies: CopySet | None = None,
        base: EmulatedComponent | None = None,
    ):
        self._context, self.request, self.arn = context, dict(request), arn
        self.name, self.endpoint = str(request["InferenceComponentName"]), request["EndpointName"]
        self.copies, self.base = copies, base
        self.status, self.failure = "Creating", ""
        self.desired = int(request.get("RuntimeConfig", {}).get("CopyCount", 0))
        self.deployment: TrafficShift[CopySet] | None = None
        self.deployment_config: Mapping[str, Any] | None = None
        self.created = self.modified = context.clock.now()

    @property
    def variant(self) -> str:
        """Name of the variant that it is on."""
        return str(self.base.variant if self.base else self.request["VariantName"])

    @property
    def compute(self) -> Mapping[str, Any] | None:
        """Compute requirements of one copy; None for an adapter."""
        found: Mapping[str, Any] | None = self.request["Specification"].get(
            "ComputeResourceRequirements"
        )
        return found

    def set_status(self, status: str, failure: str = "") -> None:
        """Set the status, and publish it."""
        self.status, self.failure = status, failure[:1024]
        self.modified = self._context.clock.now()
        self._context.publish("Inference Component", self.arn, self.summary())

    def summary(self) -> dict[str, Any]:
        """Return the component as ListInferenceComponents does."""
        return {
            "InferenceComponentName": self.name,
            "InferenceComponentArn": self.arn,
            "EndpointName": self.endpoint,
            "EndpointArn": self._context.arn("endpoint", self.endpoint),
            "VariantName": self.variant,
            "InferenceComponentStatus": self.status,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
        }

    def describe(self) -> dict[str, Any]:
        """Return the component as DescribeInferenceComponent does."""
        specification = dict(self.request["Specification"])
        if container := specification.get("Container"):
            shown = {key: value for key, value in container.items() if key != "Image"}
            if "Image" in container:
                image = container["Image"]
                shown["DeployedImage"] = {"SpecifiedImage": image, "ResolvedImage": image}
            specification["Container"] = shown
        described = {**self.summary(), "Specification": specification}
        if self.copies:
            described["RuntimeConfig"] = {
                "DesiredCopyCount": self.desired,
                "CurrentCopyCount": self.copies.count,
            }
        if self.failure:
            described["FailureReason"] = self.failure
        if self.deployment_config:
            described["LastDeploymentConfig"] = self.deployment_config
        return described
