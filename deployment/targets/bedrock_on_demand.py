"""Deployment of a custom model of Bedrock on demand, which is paid by tokens.

Another version takes its place behind the same ARN.
https://docs.aws.amazon.com/bedrock/latest/userguide/deploy-custom-model-on-demand.html
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from catalog.bedrock_custom_models import ON_DEMAND_REGIONS
from deployment.account import DeploymentAccount
from deployment.bedrock.calls import request_tags, tag_list
from deployment.bedrock.custom_model_target import CustomModelTarget
from deployment.bedrock.options import end_problems
from deployment.quote import DeploymentQuote
from deployment.record import DeploymentState
from deployment.targets.base import DeploymentRequest
from training.errors import Problem

_STATES: Mapping[str, DeploymentState] = {
    "Creating": "deploying",
    "Active": "deployed",
    "Failed": "failed",
}


def connect(account: DeploymentAccount) -> BedrockOnDemandTarget:
    """Return the target in an account."""
    return BedrockOnDemandTarget(account)


class BedrockOnDemandTarget(CustomModelTarget):
    """On-demand deployments of custom models."""

    kind = "bedrock-on-demand"
    noun = "deployment"
    ignored = ("form", "throughput")
    listing = ("list_custom_model_deployments", "modelDeploymentSummaries")
    arn_key = "customModelDeploymentArn"
    created_key = "createdAt"

    def problems(self, request: DeploymentRequest) -> Iterator[Problem]:
        """Yield everything that would make the deployment fail, before any resource is created."""
        yield from super().problems(request)
        yield from end_problems(request)
        region = self.account.environment.region
        if region not in ON_DEMAND_REGIONS:
            where = ", ".join(ON_DEMAND_REGIONS)
            yield Problem("--env", "Bedrock deploys no custom models there", region, where)

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

    def state(self, described: Mapping[str, Any]) -> DeploymentState:
        """Return the state of a deployment, whose update has a status of its own."""
        if described.get("updateDetails", {}).get("updateStatus") == "Updating":
            return "deploying"
        return _STATES[described["status"]]

    def detail(self, described: Mapping[str, Any]) -> str:
        """Return the reason of a failure."""
        return str(described.get("failureMessage", ""))

    def read(self, identifier: str) -> dict[str, Any] | None:
        """Return the description of a deployment by name or ARN, None if it does not exist."""
        return self.calls.get(
            "get_custom_model_deployment", customModelDeploymentIdentifier=identifier
        )

    def create(self, request: DeploymentRequest, model: str) -> None:
        """Begin to create a deployment."""
        self.calls.client.create_custom_model_deployment(
            modelDeploymentName=self.name(request.spec.name),
            modelArn=model,
            tags=tag_list(request_tags(self.account, request)),
            clientRequestToken=uuid.uuid4().hex,
        )

    def update(self, arn: str, model: str) -> None:
        """Begin to put another custom model behind a deployment."""
        self.calls.client.update_custom_model_deployment(
            customModelDeploymentIdentifier=arn, modelArn=model
        )

    def delete(self, described: Mapping[str, Any]) -> None:
        """Delete a deployment."""
        self.calls.client.delete_custom_model_deployment(
            customModelDeploymentIdentifier=described[self.arn_key]
        )
