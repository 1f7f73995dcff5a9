"""One endpoint: Creating → InService → Updating → (RollingBack →) InService → Deleting."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from emulator.hosting.context import HostingContext
from emulator.hosting.deployment import TrafficShift
from emulator.hosting.deployment_rules import plan_deployment
from emulator.hosting.endpoint_configs import EmulatedConfig
from emulator.hosting.fleet import Fleet
from emulator.request_validation import reject

RETAINED = ("DesiredInstanceCount", "DesiredWeight", "DataCaptureConfig")
_IN_PROGRESS = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_ANSWERING = ("InService", "Updating", "SystemUpdating", "RollingBack")


class EmulatedEndpoint:
    """Endpoint.

    Args:
        context: Clock, account and containers.
        request: CreateEndpoint request.
        config: Configuration that it starts with.
        arn: ARN of the endpoint.

    Attributes:
        config: Configuration that runs.
        status: Status of the endpoint.
        fleets: Fleet of each variant, shadow variants included.
        deployment: Update in progress.
        weights: Share of traffic of each production variant.
        desired: Number of instances that each variant should have.
    """

    def __init__(
        self,
        context: HostingContext,
        request: Mapping[str, Any],
        config: EmulatedConfig,
        arn: str,
    ):
        self._context, self.name, self.arn = context, str(request["EndpointName"]), arn
        self.config, self.status = config, "Creating"
        self.created = self.modified = context.clock.now()
        self.failure = ""
        self.deployment: TrafficShift[Fleet] | None = None
        self.deployment_config: Mapping[str, Any] | None = request.get("DeploymentConfig")
        self.weights, self.desired = _weights(config), _counts(config)
        self.capture: Mapping[str, Any] | None = config.request.get("DataCaptureConfig")
        self._generation = 1
        self.fleets = self._fleets(config)

    # --- operations -------------------------------------------------------------------------

    def create(self) -> None:
        """Start the fleets; the endpoint is in service when all are ready."""
        self._set_status("Creating")
        waiting = set(self.fleets)

        def finished(name: str, reason: str) -> None:
            if self.status != "Creating":
                return
            waiting.discard(name)
            if reason:
                self.failure = reason
                self._end_fleets()
                self._set_status("Failed")
            elif not waiting:
                self._set_status("InService")

        for name, fleet in self.fleets.items():
            fleet.start(self.desired[name], partial(finished, name))

    def update(
        self,
        config: EmulatedConfig,
        deployment_config: Mapping[str, Any] | None,
        retained: Collection[str],
    ) -> None:
        """Deploy another configuration.

        Args:
            config: The configuration.
            deployment_config: How traffic moves to it.
            retained: Properties of `RETAINED` that stay as they are.
        """
        self.deployment_config, self.failure = deployment_config, ""
        weights, counts = _weights(config), _counts(config)
        if "DesiredInstanceCount" in retained:
            counts |= {name: n for name, n in self.desired.items() if name in counts}
        if "DesiredWeight" in retained:
            weights |= {name: w for name, w in self.weights.items() if name in weights}
        self._generation += 1
        smallest = min(counts[variant["VariantName"]] for variant in config.variants)
        deployment = TrafficShift(
            self._context,
            config,
            plan_deployment(deployment_config, smallest),
            self._fleets(config),
            counts,
            lambda reason: self._finish_update(deployment, weights, retained, reason),
        )
        self.deployment = deployment
        self._set_status("Updating")
        deployment.start()

    def scale(self, desired: Mapping[str, int], weights: Mapping[str, float]) -> None:
        """Change numbers of instances and weights of variants."""
        before, waiting = dict(self.desired), set(self.fleets)
        self.desired |= desired
        self._set_status("Updating")

        def finished(name: str, reason: str) -> None:
            if self.status != "Updating":
                return
            waiting.discard(name)
            if reason:
                self.desired[name] = before[name]
            elif name in weights:
                self.weights[name] = weights[name]
            if not waiting:
                self._set_status("InService")

        for name, fleet in self.fleets.items():
            fleet.start(self.desired[name], partial(finished, name))

    def delete(self, removed: Callable[[], None]) -> None:
        """Release all instances; `removed` is called when they are gone."""
        self._set_status("Deleting")
        if self.deployment:
            self.deployment.cancel()
        self._end_fleets()
        self._context.later(self._context.timings.release_s, removed)

    def check_idle(self) -> None:
        """Reject an operation while another one is in progress."""
        if self.status in _IN_PROGRESS:
            reject(f'Cannot update in-progress endpoint "{self.arn}".')

    @property
    def answers(self) -> bool:
        """True if the endpoint can be invoked."""
        return self.status in _ANSWERING

    def end(self) -> None:
        """End every container, at once."""
        if self.deployment:
            self.deployment.cancel()
        self._end_fleets()

    # --- description ------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """Return the endpoint as DescribeEndpoint does."""
        described: dict[str, Any] = {
            **self.summary(),
            "EndpointConfigName": self.config.name,
            "ProductionVariants": [self._variant(v) for v in self.config.variants],
        }
        if self.config.shadows:
            described["ShadowProductionVariants"] = [self._variant(v) for v in self.config.shadows]
        for key in ("AsyncInferenceConfig", "MetricsConfig"):
            if key in self.config.request:
                described[key] = self.config.request[key]
        if self.capture:
            described["DataCaptureConfig"] = _describe_capture(self.capture)
        if self.failure:
            described["FailureReason"] = self.failure[:1024]
        if self.deployment_config:
            described["LastDeploymentConfig"] = self.deployment_config
        if self.deployment:
            variants = [
                {**_images(fleet), "VariantName": name, **self._pending(name, fleet)}
                for name, fleet in self.deployment.fleets.items()
            ]
            described["PendingDeploymentSummary"] = {
                **self.deployment.describe(),
                "ProductionVariants": variants,
            }
        return described

    def summary(self) -> dict[str, Any]:
        """Return the endpoint as ListEndpoints does."""
        return {
            "EndpointName": self.name,
            "EndpointArn": self.arn,
            "EndpointStatus": self.status,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
        }

    def _variant(self, variant: Mapping[str, Any]) -> dict[str, Any]:
        name = variant["VariantName"]
        fleet = self.fleets[name]
        described: dict[str, Any] = {
            "VariantName": name,
            **_images(fleet),
            "CurrentWeight": self.weights.get(name, 0.0),
            "DesiredWeight": self.weights.get(name, 0.0),
            "CurrentInstanceCount": fleet.count,
            "DesiredInstanceCount": self.desired[name],
        }
        keys = ("ManagedInstanceScaling", "RoutingConfig")
        return described | {key: variant[key] for key in keys if key in variant}

    def _pending(self, name: str, fleet: Fleet) -> dict[str, Any]:
        assert self.deployment is not None
        return {
            "InstanceType": fleet.instance_type,
            "CurrentInstanceCount": fleet.count,
            "DesiredInstanceCount": self.deployment.counts[name],
            "CurrentWeight": float(self.deployment.share),
            "DesiredWeight": 1.0,
            "VariantStatus": [{"Status": self.deployment.status}],
        }

    # --- states -----------------------------------------------------------------------------

    def _finish_update(
        self,
        deployment: TrafficShift[Fleet],
        weights: dict[str, float],
        retained: Collection[str],
        reason: str | None,
    ) -> None:
        """Take over what was deployed, or go back to what ran.

        Args:
            deployment: The deployment.
            weights: Weights of its variants.
            retained: Properties that stay as they are.
            reason: Reason of a rollback, which may be empty; None for success.
        """
        if reason is not None:
            self._set_status("RollingBack")
            self._context.later(
                self._context.timings.shift_s, lambda: self._finish_rollback(deployment, reason)
            )
            return
        self._end_fleets()
        self.deployment = None
        assert deployment.config is not None
        self.config, self.fleets = deployment.config, dict(deployment.fleets)
        self.weights, self.desired = weights, deployment.counts
        if "DataCaptureConfig" not in retained:
            self.capture = self.config.request.get("DataCaptureConfig")
        self._set_status("InService")

    def _finish_rollback(self, deployment: TrafficShift[Fleet], reason: str) -> None:
        if self.deployment is deployment and self.status == "RollingBack":
            self.deployment, self.failure = None, reason
            self._set_status("InService")

    def _fleets(self, config: EmulatedConfig) -> dict[str, Fleet]:
        return {
            variant["VariantName"]: Fleet(
                self._context,
                self.name,
                variant,
                config.models.get(variant["VariantName"]),
                self._generation,
            )
            for variant in (*config.variants, *config.shadows)
        }

    def _end_fleets(self) -> None:
        for fleet in self.fleets.values():
            fleet.end()

    def _set_status(self, status: str) -> None:
        self.status, self.modified = status, self._context.clock.now()
        detail = {
            **self.summary(),
            "EndpointConfigName": self.config.name,
            "Tags": self._context.tags_of(self.arn),
        }
        if self.failure:
            detail["FailureReason"] = self.failure
        self._context.publish("Endpoint", self.arn, detail)


def _weights(config: EmulatedConfig) -> dict[str, float]:
    return {v["VariantName"]: float(v.get("InitialVariantWeight", 1)) for v in config.variants}


def _counts(config: EmulatedConfig) -> dict[str, int]:
    variants = (*config.variants, *config.shadows)
    return {v["VariantName"]: int(v["InitialInstanceCount"]) for v in variants}


def _images(fleet: Fleet) -> dict[str, Any]:
    if fleet.model is None:
        return {}
    image = fleet.model.container["Image"]
    deployed = {"SpecifiedImage": image, "ResolvedImage": image}
    return {"DeployedImages": [{**deployed, "ResolutionTime": fleet.model.created}]}


def _describe_capture(capture: Mapping[str, Any]) -> dict[str, Any]:
    enabled = bool(capture.get("EnableCapture", False))
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
        "DestinationS3Uri": capture["DestinationS3Uri"],
        "KmsKeyId": capture.get("KmsKeyId", ""),
    }
