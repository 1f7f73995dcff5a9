"""Inference components: created, awaited, compared with what was asked, and removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deployment.account import DeploymentAccount
from deployment.errors import DeployModelError, RolledBackError
from deployment.sagemaker.calls import SageMakerCalls
from deployment.sagemaker.endpoints import ShownLine
from launch.aws.session import explain_aws_errors

_SETTLED = ("InService", "Failed")
_TIMEOUT_S, _DELETE_TIMEOUT_S = 14_400.0, 1800.0


class Components:
    """Inference components of an environment.

    Args:
        account: The account.
    """

    def __init__(self, account: DeploymentAccount):
        self.account = account
        self.calls = SageMakerCalls(account.client("sagemaker"))

    def describe(self, name: str) -> dict[str, Any] | None:
        """Return the description of a component, None if there is none."""
        return self.calls.describe("inference_component", InferenceComponentName=name)

    def on(self, endpoint: str) -> Iterator[dict[str, Any]]:
        """Yield the components of an endpoint."""
        with explain_aws_errors(f"listing the components of {endpoint}"):
            pages = self.calls.client.get_paginator("list_inference_components").paginate(
                EndpointNameEquals=endpoint
            )
            names = [c["InferenceComponentName"] for p in pages for c in p["InferenceComponents"]]
        for name in names:
            if described := self.describe(name):
                yield described

    def create(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Create a component, or continue with the one that an earlier command created, and wait.

        Args:
            request: The request CreateInferenceComponent.

        Raises:
            DeployModelError: It failed, or serves something else.
        """
        name, wanted = str(request["InferenceComponentName"]), served(request["Specification"])
        described = self.describe(name)
        if described and described["InferenceComponentStatus"] in ("Failed", "Deleting"):
            self.remove(name)
            described = None
        if described is None:
            self.calls.create("inference_component", request, "InferenceComponentName")
        described = self.settle(name)
        _raise_if_failed(described)
        if served(described["Specification"]) != wanted:
            raise DeployModelError(
                f"{name} exists and serves {served(described['Specification'])}, not {wanted}. To "
                f"serve another version: temper swap; to remove it: temper undeploy"
            )
        return described

    def update(
        self, name: str, specification: Mapping[str, Any], shift: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Replace what a component serves, and wait until all its copies do.

        Args:
            name: Name of the component.
            specification: The new specification.
            shift: How copies are replaced; None for an adapter.

        Raises:
            RolledBackError: The service went back to what was served before.
            DeployModelError: The component does not exist, or failed.
        """
        described = self.describe(name)
        if described is None:
            raise DeployModelError(f"{name} does not exist. Deploy it first: temper deploy-model")
        busy = described["InferenceComponentStatus"] not in _SETTLED
        if busy:
            described = self.settle(name)
        if served(described["Specification"]) != served(specification):
            more = {} if shift is None else {"DeploymentConfig": dict(shift)}
            with explain_aws_errors(f"changing {name}"):
                self.calls.client.update_inference_component(
                    InferenceComponentName=name, Specification=dict(specification), **more
                )
            described = self.settle(name)
        _raise_if_failed(described)
        if served(described["Specification"]) != served(specification):
            reason = described.get("FailureReason")
            raise RolledBackError(
                f"{name} is in service, but serves {served(described['Specification'])}: SageMaker "
                f"rolled {served(specification)} back"
                + (f": {reason}" if reason else ", and gives no reason")
            )
        return described

    def settle(self, name: str) -> dict[str, Any]:
        """Return the description of a component when nothing is in progress any more.

        Raises:
            DeployModelError: It disappeared, or takes too long.
        """
        shown = ShownLine()

        def read() -> dict[str, Any]:
            described = self.describe(name)
            if described is None:
                raise DeployModelError(f"{name} was deleted while it was awaited")
            shown(f"{name}: {described['InferenceComponentStatus']}")
            return described

        return self.account.polling.until(
            read,
            lambda d: d["InferenceComponentStatus"] in _SETTLED,
            what=name,
            timeout_s=_TIMEOUT_S,
        )

    def remove(self, name: str) -> None:
        """Delete a component and wait until it is gone; nothing happens if it does not exist."""
        described = self.describe(name)
        if described is None:
            return
        if described["InferenceComponentStatus"] not in (*_SETTLED, "Deleting"):
            described = self.settle(name)  # SageMaker refuses to delete what changes
        if described["InferenceComponentStatus"] != "Deleting":
            self.calls.delete("inference_component", InferenceComponentName=name)
        self.account.polling.until(
            lambda: self.describe(name),
            lambda left: left is None,
            what=f"the removal of {name}",
            timeout_s=_DELETE_TIMEOUT_S,
        )


def served(specification: Mapping[str, Any]) -> str:
    """Return what a specification serves: the name of a model, or the archive of an adapter."""
    container = specification.get("Container") or {}
    return str(specification.get("ModelName") or container.get("ArtifactUrl") or "")


def _raise_if_failed(described: Mapping[str, Any]) -> None:
    """Raise if a component cannot serve.

    Raises:
        DeployModelError: It cannot; the message has the service's reason.
    """
    if described["InferenceComponentStatus"] == "Failed":
        name = described["InferenceComponentName"]
        reason = described.get("FailureReason", "no reason given")
        raise DeployModelError(
            f"{name} is Failed: {reason}. Its log is in /aws/sagemaker/InferenceComponents/{name}. "
            f"The same command tries again; temper undeploy removes what is left"
        )
