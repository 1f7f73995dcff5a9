"""Deployment of a custom model of Bedrock on demand, which is paid by tokens.

Another version takes its place behind the same ARN.
https://docs.aws.amazon.com/bedrock/latest/userguide/deploy-custom-model-on-demand.html
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import catalog.deployment_tags as tag
from catalog.bedrock_custom_models import ON_DEMAND_REGIONS
from deployment.account import DeploymentAccount
from deployment.bedrock.calls import (
    NOT_FOUND,
    BedrockCalls,
    model_of,
    request_tags,
    tag_list,
)
from deployment.bedrock.custom_models import CustomModels
from deployment.bedrock.options import end_problems, option_problems
from deployment.errors import DeployModelError, RolledBackError
from deployment.quote import DeploymentQuote
from deployment.record import Deployment, DeploymentState
from deployment.targets.base import DeploymentRequest
from launch.aws.session import explain_aws_errors
from training.errors import Problem

_STATES: Mapping[str, DeploymentState] = {
    "Creating": "deploying",
    "Active": "deployed",
    "Failed": "failed",
}
_HOURS = 2 * 3600.0


def connect(account: DeploymentAccount) -> BedrockOnDemandTarget:
    """Return the target in an account."""
    return BedrockOnDemandTarget(account)


class BedrockOnDemandTarget:
    """On-demand deployments of custom models.

    Args:
        account: The account.
    """

    kind = "bedrock-on-demand"
    form: str | None = None

    def __init__(self, account: DeploymentAccount):
        self._account, self._calls = account, BedrockCalls(account)
        self._models = CustomModels(account)

    def problems(self, request: DeploymentRequest) -> Iterator[Problem]:
        """Yield everything that would make the deployment fail, before anything is made."""
        yield from option_problems(request, "form", "throughput")
        yield from end_problems(request)
        region = self._account.environment.region
        if region not in ON_DEMAND_REGIONS:
            where = ", ".join(ON_DEMAND_REGIONS)
            yield Problem("--env", "Bedrock deploys no custom models there", region, where)
        yield from self._models.problems(request)
        if self._is_foreign(request.spec.name):
            yield Problem(
                "name",
                "a deployment of this name was not made by `temper deploy-model`",
                self._name(request.spec.name),
                "Choose another --name",
            )

    def quote(self, request: DeploymentRequest) -> DeploymentQuote:
        """Return what the deployment costs: tokens alone."""
        return DeploymentQuote(
            what="Bedrock, a custom model on demand",
            hourly_usd=0.0,
            idle_usd=0.0,
            most_usd=None,
            removed="by `temper undeploy` alone",
            source="paid by tokens, at the prices of the base model",
            notes=("Bedrock's pricing page has the price of a stored custom model",),
        )

    def find(self, name: str) -> Deployment | None:
        """Return the deployment of a name, None if there is none."""
        described = self._describe(name)
        tags = self._calls.tags(described["customModelDeploymentArn"]) if described else {}
        return self._deployment(described, tags) if described and tag.DEPLOYMENT in tags else None

    def list(self) -> list[Deployment]:
        """Return all deployments of the environment."""
        found = []
        key = "modelDeploymentSummaries"
        for summary in self._calls.list("list_custom_model_deployments", key):
            tags = self._calls.tags(summary["customModelDeploymentArn"])
            described = self._get(summary["customModelDeploymentArn"])
            if tag.DEPLOYMENT in tags and described is not None:
                found.append(self._deployment(described, tags))
        return found

    def _deployment(self, described: Mapping[str, Any], tags: Mapping[str, str]) -> Deployment:
        state = _STATES[described["status"]]
        return Deployment(
            name=tags[tag.DEPLOYMENT],
            to=self.kind,
            state="deploying" if _is_updating(described) else state,
            model=model_of(tags),
            address=described["customModelDeploymentArn"],
            detail=described.get("failureMessage", ""),
            tags=tags,
            created=described["createdAt"],
        )

    def deploy(self, request: DeploymentRequest) -> Deployment:
        """Deploy a version, or continue a deployment that was interrupted.

        Raises:
            DeployModelError: It failed, with Bedrock's reason.
        """
        name = request.spec.name
        model = self._models.ensure(request)
        described = self._describe(name)
        if described is not None and described["status"] == "Failed":
            self._delete(described["customModelDeploymentArn"])
            described = None
        if described is None:
            tags = tag_list(request_tags(self._account, request))
            with explain_aws_errors(f"deploying {request.model.id}"):
                self._calls.client.create_custom_model_deployment(
                    modelDeploymentName=self._name(name),
                    modelArn=model,
                    tags=tags,
                    clientRequestToken=uuid.uuid4().hex,
                )
        described = self._settled(name)
        if described["status"] != "Active":
            reason = described.get("failureMessage") or "Bedrock gives no reason"
            raise DeployModelError(
                f"{self._name(name)} failed: {reason}. The same command deploys it again"
            )
        return self._found(name)

    def swap(self, request: DeploymentRequest) -> Deployment:
        """Put another version behind the ARN of a deployment.

        Raises:
            RolledBackError: Bedrock kept the version before.
            DeployModelError: There is no deployment, or its model could not be created.
        """
        name = request.spec.name
        if self._describe(name) is None:
            raise DeployModelError(f"{name} does not exist. Deploy it first: temper deploy-model")
        model = self._models.ensure(request)
        before = self._settled(name)
        arn = before["customModelDeploymentArn"]
        if before["modelArn"] != model:
            with explain_aws_errors(f"serving {request.model.id} as {name}"):
                self._calls.client.update_custom_model_deployment(
                    customModelDeploymentIdentifier=arn, modelArn=model
                )
            after = self._settled(name)
            if after["modelArn"] != model:
                self._models.delete_all(name, keep=after["modelArn"])
                serving = model_of(self._calls.tags(arn))
                raise RolledBackError(
                    f"Bedrock kept the model before: {after.get('failureMessage') or 'no reason'}. "
                    f"{serving} serves"
                )
        self._calls.set_tags(arn, request.tags)
        self._models.delete_all(name, keep=model)
        return self._found(name)

    def undeploy(self, name: str) -> None:
        """Remove a deployment and its custom models; a repetition is no error."""
        if self._describe(name) is not None and not self._is_foreign(name):
            self._delete(self._settled(name)["customModelDeploymentArn"])
        if self._describe(name) is None:
            self._models.delete_all(name)

    def _name(self, name: str) -> str:
        return self._account.resource_name(name)

    def _get(self, identifier: str) -> dict[str, Any] | None:
        return self._calls.get(
            "get_custom_model_deployment", customModelDeploymentIdentifier=identifier
        )

    def _describe(self, name: str) -> dict[str, Any] | None:
        return self._get(self._name(name))

    def _is_foreign(self, name: str) -> bool:
        described = self._describe(name)
        if described is None:
            return False
        return tag.DEPLOYMENT not in self._calls.tags(described["customModelDeploymentArn"])

    def _settled(self, name: str) -> dict[str, Any]:
        """Return a deployment that is neither created nor updated any more.

        Raises:
            DeployModelError: It was removed meanwhile.
        """
        described = self._account.polling.until(
            lambda: self._describe(name),
            lambda found: (
                found is None or (found["status"] != "Creating" and not _is_updating(found))
            ),
            what=f"the deployment {self._name(name)}",
            timeout_s=_HOURS,
        )
        if described is None:
            raise DeployModelError(f"{name} was removed by someone else")
        return described

    def _delete(self, arn: str) -> None:
        with explain_aws_errors(f"deleting {arn}", ignore=NOT_FOUND):
            self._calls.client.delete_custom_model_deployment(customModelDeploymentIdentifier=arn)

    def _found(self, name: str) -> Deployment:
        deployment = self.find(name)
        if deployment is None:
            raise DeployModelError(f"{name} was removed by someone else")
        return deployment


def _is_updating(described: Mapping[str, Any]) -> bool:
    return bool(described.get("updateDetails", {}).get("updateStatus") == "Updating")
