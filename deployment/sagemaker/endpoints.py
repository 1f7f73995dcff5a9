"""Endpoints of deployments: created, awaited, compared with what was asked, and removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import catalog.deployment_tags as tag
from deployment.account import DeploymentAccount
from deployment.errors import DeployModelError, RolledBackError
from deployment.record import Deployment, DeploymentState, model_of_tags
from deployment.sagemaker.calls import SageMakerCalls
from deployment.sagemaker.requests import DIGEST_LENGTH
from launch.aws.session import explain_aws_errors
from training.console import say

STATES: Mapping[str, DeploymentState] = {
    "Creating": "deploying",
    "Updating": "deploying",
    "SystemUpdating": "deploying",
    "RollingBack": "deploying",
    "InService": "deployed",
    "Deleting": "undeploying",
    "Failed": "failed",
    "OutOfService": "failed",
    "UpdateRollbackFailed": "failed",
}
_SETTLED = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")
_CREATE_TIMEOUT_S, _UPDATE_TIMEOUT_S, _DELETE_TIMEOUT_S = 5400.0, 36_000.0, 1800.0
_NO_CAPACITY = ("insufficient", "capacity")


class Endpoints:
    """Endpoints of one kind of deployment in an environment.

    Args:
        account: The account.
        kind: Kind of the deployments.
    """

    def __init__(self, account: DeploymentAccount, kind: str):
        self.account, self.kind = account, kind
        self.calls = SageMakerCalls(account.client("sagemaker"))

    def name(self, deployment: str) -> str:
        """Return the name of the endpoint of a deployment."""
        return self.account.resource_name(deployment)

    def describe(self, deployment: str) -> dict[str, Any] | None:
        """Return the description of a deployment's endpoint, None if there is none."""
        return self.calls.describe("endpoint", EndpointName=self.name(deployment))

    def find(self, deployment: str) -> Deployment | None:
        """Return a deployment; None if there is none of this name and kind."""
        described = self.describe(deployment)
        return None if described is None else self._deployment(described)

    def all(self) -> Iterator[Deployment]:
        """Yield the deployments of this kind in the environment."""
        prefix = f"{self.account.environment.prefix}-"
        for summary in self.calls.names("list_endpoints", prefix):
            name = summary["EndpointName"]
            described = self.calls.describe("endpoint", EndpointName=name)
            if name.startswith(prefix) and described is not None:
                found = self._deployment(described)
                if found is not None:
                    yield found

    def create(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Create an endpoint, or continue with the one that an earlier command created, and wait.

        Args:
            request: The request CreateEndpoint.

        Raises:
            DeployModelError: It failed, or has another configuration.
        """
        name, wanted = str(request["EndpointName"]), str(request["EndpointConfigName"])
        described = self.calls.describe("endpoint", EndpointName=name)
        if described and described["EndpointStatus"] in ("Failed", "Deleting"):
            say(f"{name} failed before; it is removed and created again")
            self.remove(name)
            described = None
        if described is None:
            self.calls.create("endpoint", request, "EndpointName")
        elif described["EndpointStatus"] == "Creating":
            say(f"{name} is being created already")
        described = self.settle(name, _CREATE_TIMEOUT_S)
        self._raise_if_failed(described)
        running = described["EndpointConfigName"]
        if running != wanted:
            raise DeployModelError(
                f"{name} exists with the configuration {running}, not {wanted}. To serve another "
                f"version: temper swap; to remove it: temper undeploy"
            )
        return described

    def update(
        self,
        name: str,
        config: str,
        deployment_config: Mapping[str, Any] | None,
        *,
        retain: bool,
    ) -> dict[str, Any]:
        """Shift an endpoint to another configuration, and wait until it runs.

        Args:
            name: Name of the endpoint.
            config: Name of the configuration.
            deployment_config: How the traffic shifts; the last one if None.
            retain: Whether the number of instances stays, as scaling has set it.

        Raises:
            RolledBackError: The service went back to the configuration before.
            DeployModelError: The endpoint does not exist, failed, or is changed by another command.
        """
        described = self.calls.describe("endpoint", EndpointName=name)
        if described is None:
            raise DeployModelError(f"{name} does not exist. Deploy it first: temper deploy-model")
        pending = described.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
        if pending not in (None, config):
            raise DeployModelError(
                f"{name} is being changed to {pending}. Wait until `temper deployments` says that "
                f"it is deployed"
            )
        if pending is None and described["EndpointStatus"] not in _SETTLED:
            described = self.settle(name, _UPDATE_TIMEOUT_S)
        if pending is None and described["EndpointConfigName"] != config:
            self._raise_if_failed(described)
            self._update(name, config, deployment_config, retain=retain)
        described = self.settle(name, _UPDATE_TIMEOUT_S)
        self._raise_if_failed(described)
        if described["EndpointConfigName"] != config:
            raise RolledBackError(
                f"{name} is in service, but with the configuration "
                f"{described['EndpointConfigName']}: SageMaker rolled {config} back"
                f"{_reason(described)}"
            )
        return described

    def _update(
        self, name: str, config: str, shift: Mapping[str, Any] | None, *, retain: bool
    ) -> None:
        more: dict[str, Any] = {}
        if retain:
            more["RetainAllVariantProperties"] = True
            more["ExcludeRetainedVariantProperties"] = [
                {"VariantPropertyType": "DataCaptureConfig"}
            ]
        if shift is not None:
            more["DeploymentConfig"] = shift
        with explain_aws_errors(f"changing {name}"):
            self.calls.client.update_endpoint(EndpointName=name, EndpointConfigName=config, **more)

    def settle(self, name: str, timeout_s: float) -> dict[str, Any]:
        """Return the description of an endpoint when nothing is in progress any more.

        Raises:
            DeployModelError: It disappeared, or takes too long.
        """
        shown = ShownLine()

        def read() -> dict[str, Any]:
            described = self.calls.describe("endpoint", EndpointName=name)
            if described is None:
                raise DeployModelError(f"{name} was deleted while it was awaited")
            shown(f"{name}: {described['EndpointStatus']}{_pending(described)}")
            return described

        return self.account.polling.until(
            read, lambda d: d["EndpointStatus"] in _SETTLED, what=name, timeout_s=timeout_s
        )

    def remove(self, name: str) -> None:
        """Delete an endpoint and wait until it is gone; nothing happens if it does not exist."""
        described = self.calls.describe("endpoint", EndpointName=name)
        if described is None:
            return
        if described["EndpointStatus"] not in (*_SETTLED, "Deleting"):
            self.settle(name, _UPDATE_TIMEOUT_S)  # SageMaker refuses to delete what changes
        if described["EndpointStatus"] != "Deleting":
            self.calls.delete("endpoint", EndpointName=name)
        self.account.polling.until(
            lambda: self.calls.describe("endpoint", EndpointName=name),
            lambda left: left is None,
            what=f"the removal of {name}",
            timeout_s=_DELETE_TIMEOUT_S,
        )

    def remove_leftovers(self, deployment: str, keep: tuple[str, ...] = ()) -> None:
        """Delete configurations and models of a deployment, which cost nothing.

        Args:
            deployment: Name of the deployment.
            keep: Names of those that stay.
        """
        for operation, kind, key in (
            ("list_endpoint_configs", "endpoint_config", "EndpointConfigName"),
            ("list_models", "model", "ModelName"),
        ):
            for summary in self.calls.names(operation, f"{self.name(deployment)}-"):
                name = summary[key]
                if name not in keep and is_of(name, self.name(deployment)):
                    self.calls.delete(kind, **{key: name})

    def models_of(self, config: str) -> list[str]:
        """Return the names of the models of a configuration."""
        described = self.calls.describe("endpoint_config", EndpointConfigName=config) or {}
        return [v["ModelName"] for v in described.get("ProductionVariants", ()) if "ModelName" in v]

    def models_since(self, described: Mapping[str, Any]) -> datetime | None:
        """Return the time of creation of the newest model of an endpoint; None if it has none."""
        names = self.models_of(str(described["EndpointConfigName"]))
        models = [self.calls.describe("model", ModelName=name) for name in names]
        return max((model["CreationTime"] for model in models if model), default=None)

    def _deployment(self, described: Mapping[str, Any]) -> Deployment | None:
        """Return the deployment of an endpoint; None if it is of another kind."""
        name = str(described["EndpointConfigName"])
        config = self.calls.describe("endpoint_config", EndpointConfigName=name)
        if config is not None and kind_of(config) != self.kind:
            return None
        tags = self.calls.tags(described["EndpointArn"])
        if tags.get(tag.TARGET, self.kind) != self.kind:
            return None
        of_version = self.calls.tags(config["EndpointConfigArn"]) if config else tags
        status = described["EndpointStatus"]
        reason = str(described.get("FailureReason", ""))
        state = STATES.get(status, "deploying")
        if state == "deployed" and reason:
            state = "rolled back"
        return Deployment(
            name=tags.get(tag.DEPLOYMENT, described["EndpointName"]),
            to=self.kind,
            state=state,
            model=model_of_tags(of_version),
            address=described["EndpointName"],
            detail=reason or _pending(described).strip(" ()"),
            tags=tags,
            instances=_instances(described, config or {}),
            created=described.get("CreationTime"),
        )

    def _raise_if_failed(self, described: Mapping[str, Any]) -> None:
        """Raise if an endpoint cannot serve.

        Raises:
            DeployModelError: It cannot; the message has the service's reason.
        """
        if STATES.get(described["EndpointStatus"]) != "failed":
            return
        name, reason = described["EndpointName"], str(described.get("FailureReason", ""))
        advice = f"The log is in /aws/sagemaker/Endpoints/{name}"
        if all(word in reason.lower() for word in _NO_CAPACITY):
            advice = "Try later, or choose another --instance"
        raise DeployModelError(
            f"{name} is {described['EndpointStatus']}: {reason or 'no reason given'}. {advice}. "
            f"The same command tries again; temper undeploy removes what is left"
        )


def kind_of(config: Mapping[str, Any]) -> str:
    """Return the kind of deployment that a configuration belongs to."""
    if "AsyncInferenceConfig" in config:
        return "async"
    variants = config.get("ProductionVariants", ())
    return "endpoint" if any("ModelName" in variant for variant in variants) else "component"


class ShownLine:
    """Line on the terminal that is printed when it changes."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, line: str) -> None:
        """Print a line unless it is the last one."""
        if line != self._last:
            say(line)
            self._last = line


def is_of(name: str, stem: str) -> bool:
    """Return whether a name is the stem with a digest: `a-b-…` is not of the deployment `a`."""
    digest = name.removeprefix(f"{stem}-")
    return len(digest) == DIGEST_LENGTH and all(c in "0123456789abcdef" for c in digest)


def _instances(described: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, int]:
    types = {
        v["VariantName"]: v.get("InstanceType", "") for v in config.get("ProductionVariants", ())
    }
    counts: dict[str, int] = {}
    for variant in described.get("ProductionVariants", ()):
        name = types.get(variant["VariantName"], "")
        if name:
            counts[name] = counts.get(name, 0) + int(variant.get("CurrentInstanceCount", 0))
    return counts


def _pending(described: Mapping[str, Any]) -> str:
    """Return the share of the traffic that a pending configuration has, in parentheses."""
    for variant in described.get("PendingDeploymentSummary", {}).get("ProductionVariants", ()):
        if "CurrentWeight" in variant:
            return f" ({variant['CurrentWeight']:.0%} of the traffic on the new version)"
    return ""


def _reason(described: Mapping[str, Any]) -> str:
    reason = described.get("FailureReason")
    return f": {reason}" if reason else ", and gives no reason"
