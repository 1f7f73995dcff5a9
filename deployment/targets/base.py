"""Protocol of a target of deployments, and the choice of one by its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Any, Protocol, cast, runtime_checkable

from deployment.account import DeploymentAccount
from deployment.errors import RemovedMeanwhileError
from deployment.model import DeployedModel
from deployment.quote import DeploymentQuote
from deployment.record import Deployment, deployment_tags
from deployment.spec import DeploymentSpec
from training.errors import Problem

_MODULES = {
    "endpoint": "endpoint",
    "component": "component",
    "async": "asynchronous",
    "batch": "batch",
    "hyperpod": "hyperpod",
    "bedrock-import": "bedrock_import",
    "bedrock-on-demand": "bedrock_on_demand",
    "bedrock-throughput": "bedrock_throughput",
}


@dataclass(frozen=True)
class DeploymentRequest:
    """A deployment to be made.

    Attributes:
        spec: The specification.
        model: The version that is served.
        owner: Who deploys it.
        verify: Called when the new version serves; an error that it raises makes a target that
            can ask its deployment restore the version before.
    """

    spec: DeploymentSpec
    model: DeployedModel
    owner: str
    verify: Callable[[], None] | None = None

    @property
    def tags(self) -> dict[str, str]:
        """Tags of every resource of the deployment."""
        return deployment_tags(self.spec, self.model.name, self.model.version, self.owner)


def versioned_name(account: DeploymentAccount, request: DeploymentRequest) -> str:
    """Return the name of what is made for one version of a deployment.

    Its version is never cut off: the environment's prefix and the deployment's name have at most
    45 characters together.
    """
    version = request.model.version.replace(".", "-")
    return account.resource_name(request.spec.name, version)


class DeploymentTarget(Protocol):
    """A kind of deployment.

    Every operation is restartable: names follow from the request, so that the same command
    continues what an interrupted one began, and changes nothing that is complete. A module of a
    target has a function `connect(account)` that returns one.

    Attributes:
        kind: The kind, as `--to` has it.
        form: Form of a version that it needs if the user names none; None for the usual one.
    """

    kind: str
    form: str | None

    def problems(self, request: DeploymentRequest) -> Iterator[Problem]:
        """Yield everything that would make the deployment fail, before any resource is created."""

    def quote(self, request: DeploymentRequest) -> DeploymentQuote:
        """Return what the deployment costs."""

    def find(self, name: str) -> Deployment | None:
        """Return the deployment of a name, None if there is none."""

    def list(self) -> list[Deployment]:
        """Return all deployments of the environment."""

    def deploy(self, request: DeploymentRequest) -> Deployment:
        """Make a deployment, or continue one that was interrupted, and wait until it serves.

        Raises:
            DeployModelError: It failed, with the service's reason.
        """

    def swap(self, request: DeploymentRequest) -> Deployment:
        """Serve another version behind the same name, and wait until it does.

        Raises:
            RolledBackError: The service went back to the version before.
            DeployModelError: It failed, with the service's reason.
        """

    def undeploy(self, name: str) -> None:
        """Remove a deployment with everything that was made for it; a repetition is no error.

        Raises:
            DeployModelError: Something remains.
        """


@runtime_checkable
class AnsweringTarget(Protocol):
    """Target whose deployments can be asked from here, for golden prompts."""

    def ask(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of a deployment to a body of OpenAI's protocol.

        Raises:
            DeployModelError: It does not answer.
        """


@runtime_checkable
class RememberingTarget(Protocol):
    """Target whose deployments show how they were made, so that a swap keeps it."""

    def kept(self, name: str) -> dict[str, Any]:
        """Return keys of the specification that a deployment was made with.

        Args:
            name: Name of the deployment.
        """


@runtime_checkable
class TimedTarget(Protocol):
    """Target that knows since when the version of a deployment serves."""

    def serving_since(self, name: str) -> datetime | None:
        """Return about when the version that serves took over; None if it is not known.

        Args:
            name: Name of the deployment.
        """


def connect_target(kind: str, account: DeploymentAccount) -> DeploymentTarget:
    """Return the target of a kind, by the function `connect` of its module.

    Args:
        kind: One of `TARGET_KINDS`.
        account: Account of the deployments.
    """
    module = import_module(f"deployment.targets.{_MODULES[kind]}")
    return cast(DeploymentTarget, module.connect(account))


def ignored_problems(request: DeploymentRequest, *keys: str) -> Iterator[Problem]:
    """Yield a problem for each key that is given and has no effect on a kind of deployment.

    Args:
        request: The deployment.
        keys: Keys of the specification that the kind does not read.
    """
    spec = request.spec
    for key in keys:
        value = getattr(spec, key)
        if key in spec.model_fields_set and value != type(spec).model_fields[key].get_default():
            yield Problem(key, f"has no effect on a deployment to {spec.to}", fix="Leave it out")


def require(target: DeploymentTarget, name: str) -> Deployment:
    """Return a deployment that was just made or changed.

    Raises:
        RemovedMeanwhileError: It was removed meanwhile.
    """
    deployment = target.find(name)
    if deployment is None:
        raise RemovedMeanwhileError(name)
    return deployment
