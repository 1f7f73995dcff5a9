"""Target that serves a custom model behind an ARN, which stays when the version changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

import catalog.deployment_tags as tag
from deployment.account import DeploymentAccount
from deployment.bedrock.calls import NOT_FOUND, BedrockCalls
from deployment.bedrock.custom_models import CustomModels
from deployment.bedrock.options import option_problems
from deployment.errors import DeployModelError, RemovedMeanwhileError, RolledBackError
from deployment.quote import DeploymentQuote
from deployment.record import Deployment, DeploymentState, model_of_tags
from deployment.targets.base import DeploymentRequest, require
from launch.aws.session import explain_aws_errors
from training.errors import Problem

_TIMEOUT_S = 6 * 3600.0


class CustomModelTarget(ABC):
    """Custom models behind resources of one kind, of which one serves a deployment.

    Args:
        account: The account.

    Attributes:
        kind: The kind, as `--to` has it.
        form: None: a custom model is created from a model package, whatever its form.
        noun: Word for the resource.
        ignored: Keys of a specification without an effect, besides those of all of Bedrock.
        listing: Operation that lists the resources, and the member that holds the list.
        arn_key: Member of a description that holds the ARN.
        created_key: Member of a description that holds the time of creation.
    """

    kind: str
    form: str | None = None
    noun: ClassVar[str]
    ignored: ClassVar[tuple[str, ...]]
    listing: ClassVar[tuple[str, str]]
    arn_key: ClassVar[str]
    created_key: ClassVar[str]

    def __init__(self, account: DeploymentAccount):
        self.account, self.calls = account, BedrockCalls(account)
        self.models = CustomModels(account)

    @abstractmethod
    def quote(self, request: DeploymentRequest) -> DeploymentQuote:
        """Return what the deployment costs."""

    @abstractmethod
    def state(self, described: Mapping[str, Any]) -> DeploymentState:
        """Return the state of a resource; `deploying` while it is created or updated."""

    @abstractmethod
    def detail(self, described: Mapping[str, Any]) -> str:
        """Return more about the state of a resource."""

    @abstractmethod
    def read(self, identifier: str) -> dict[str, Any] | None:
        """Return the description of a resource by name or ARN, None if it does not exist."""

    @abstractmethod
    def create(self, request: DeploymentRequest, model: str) -> None:
        """Begin to create the resource of a deployment for a custom model."""

    @abstractmethod
    def update(self, arn: str, model: str) -> None:
        """Begin to put another custom model behind a resource."""

    @abstractmethod
    def delete(self, described: Mapping[str, Any]) -> None:
        """Delete a resource.

        Raises:
            DeployModelError: It cannot be deleted yet.
        """

    def problems(self, request: DeploymentRequest) -> Iterator[Problem]:
        """Yield everything that would make the deployment fail, before any resource is created."""
        yield from option_problems(request, *self.ignored)
        yield from self.models.problems(request)
        described = self.describe(request.spec.name)
        if described is not None and self._deployment(described) is None:
            yield Problem(
                "name",
                f"a {self.noun} of this name was not made by `temper deploy-model`",
                self.name(request.spec.name),
                "Choose another --name",
            )

    def find(self, name: str) -> Deployment | None:
        """Return the deployment of a name, None if there is none."""
        described = self.describe(name)
        return None if described is None else self._deployment(described)

    def list(self) -> list[Deployment]:
        """Return all deployments of the environment."""
        summaries = self.calls.list(*self.listing)
        described = (self.read(summary[self.arn_key]) for summary in summaries)
        found = (self._deployment(one) for one in described if one is not None)
        return [deployment for deployment in found if deployment is not None]

    def deploy(self, request: DeploymentRequest) -> Deployment:
        """Deploy a version, or continue a deployment that was interrupted.

        Raises:
            DeployModelError: It failed, with Bedrock's reason.
        """
        name = request.spec.name
        model = self.models.ensure(request)
        described = self.describe(name)
        if described is not None and self.state(described) == "failed":
            self._delete(described)
            described = None
        if described is None:
            with explain_aws_errors(f"deploying {request.model.id}"):
                self.create(request, model)
        described = self._settled(name)
        if self.state(described) == "failed":
            reason = described.get("failureMessage") or "Bedrock gives no reason"
            raise DeployModelError(
                f"{self.name(name)} failed: {reason}. The same command deploys it again"
            )
        return require(self, name)

    def swap(self, request: DeploymentRequest) -> Deployment:
        """Put another version behind the ARN of a deployment.

        Raises:
            RolledBackError: Bedrock kept the version before.
            DeployModelError: There is no deployment, or its model could not be created.
        """
        name = request.spec.name
        if self.describe(name) is None:
            raise DeployModelError(f"{name} does not exist. Deploy it first: temper deploy-model")
        model = self.models.ensure(request)
        before = self._settled(name)
        arn = before[self.arn_key]
        if before["modelArn"] != model:
            with explain_aws_errors(f"serving {request.model.id} as {name}"):
                self.update(arn, model)
            # After an update that failed, the resource is in service with the model before.
            after = self._settled(name)
            if after["modelArn"] != model:
                self.models.delete_all(name, keep=after["modelArn"])
                reason = after.get("failureMessage") or "it gives no reason"
                serving = model_of_tags(self.calls.tags(arn))
                raise RolledBackError(f"Bedrock kept the model before: {reason}. {serving} serves")
        self.calls.set_tags(arn, request.tags)
        self.models.delete_all(name, keep=model)
        return require(self, name)

    def undeploy(self, name: str) -> None:
        """Remove a deployment and its custom models; a repetition is no error.

        Raises:
            DeployModelError: It cannot be deleted yet.
        """
        described = self.describe(name)
        if described is not None:
            if self._deployment(described) is None:
                return  # not made by Temper
            self._delete(self._settled(name))
        self.models.delete_all(name)

    def serving_since(self, name: str) -> datetime | None:
        """Return when the resource was last changed: only another version changes it."""
        described = self.describe(name) or {}
        changed = described.get("lastUpdatedAt") or described.get("lastModifiedTime")
        since: datetime | None = changed or described.get(self.created_key)
        return since

    def name(self, deployment: str) -> str:
        """Return the name of the resource of a deployment."""
        return self.account.resource_name(deployment)

    def describe(self, deployment: str) -> dict[str, Any] | None:
        """Return the description of a deployment's resource, None if it does not exist."""
        return self.read(self.name(deployment))

    def _deployment(self, described: Mapping[str, Any]) -> Deployment | None:
        """Return the deployment of a resource, None if it is not one."""
        tags = self.calls.tags(described[self.arn_key])
        if tag.DEPLOYMENT not in tags:
            return None
        return Deployment(
            name=tags[tag.DEPLOYMENT],
            to=self.kind,
            state=self.state(described),
            model=model_of_tags(tags),
            address=described[self.arn_key],
            detail=self.detail(described),
            tags=tags,
            created=described[self.created_key],
        )

    def _settled(self, name: str) -> dict[str, Any]:
        """Return a resource that is neither created nor updated any more.

        Raises:
            RemovedMeanwhileError: It was removed meanwhile.
        """
        described = self.account.polling.until(
            lambda: self.describe(name),
            lambda found: found is None or self.state(found) != "deploying",
            what=f"the {self.noun} {self.name(name)}",
            timeout_s=_TIMEOUT_S,
        )
        if described is None:
            raise RemovedMeanwhileError(name)
        return described

    def _delete(self, described: Mapping[str, Any]) -> None:
        with explain_aws_errors(f"deleting {described[self.arn_key]}", ignore=NOT_FOUND):
            self.delete(described)
