"""Deployment of a custom model of Bedrock with provisioned throughput, which is paid by the hour.

Another version of the same base takes its place behind the same ARN. Throughput without a
commitment can be deleted at any time; with one it is paid to the end of the term.
https://docs.aws.amazon.com/bedrock/latest/userguide/prov-throughput.html
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import catalog.deployment_tags as tag
from catalog.bedrock_custom_models import COMMITMENT_DAYS
from deployment.account import DeploymentAccount
from deployment.bedrock.calls import request_tags, tag_list
from deployment.bedrock.custom_model_target import CustomModelTarget
from deployment.errors import DeployModelError
from deployment.lifetime import cancel_end, schedule_end
from deployment.quote import DeploymentQuote
from deployment.record import Deployment, DeploymentState, end_tags, end_words
from deployment.spec import ProvisionedUnits
from deployment.targets.base import DeploymentRequest
from training.errors import Problem

_STATES: Mapping[str, DeploymentState] = {
    "Creating": "deploying",
    "Updating": "deploying",
    "InService": "deployed",
    "Failed": "failed",
}


def connect(account: DeploymentAccount) -> BedrockThroughputTarget:
    """Return the target in an account."""
    return BedrockThroughputTarget(account)


class BedrockThroughputTarget(CustomModelTarget):
    """Provisioned throughput of custom models."""

    kind = "bedrock-throughput"
    noun = "throughput"
    ignored = ("form",)
    listing = ("list_provisioned_model_throughputs", "provisionedModelSummaries")
    arn_key = "provisionedModelArn"
    created_key = "creationTime"

    def problems(self, request: DeploymentRequest) -> Iterator[Problem]:
        """Yield everything that would make the deployment fail, before any resource is created."""
        yield from super().problems(request)
        described = self.describe(request.spec.name)
        if described is None:
            return
        base = self.models.base(request)
        behind = described["foundationModelArn"].rpartition("/")[2]
        if base is not None and base != behind:
            yield Problem(
                "model",
                f"was trained from {base}, and {request.spec.name} takes models of {behind} alone",
                request.model.id,
                "Choose another --name",
            )

    def quote(self, request: DeploymentRequest) -> DeploymentQuote:
        """Return what the deployment costs: as much idle as in use."""
        units = request.spec.throughput or ProvisionedUnits()
        price = None if units.unit_usd is None else units.units * units.unit_usd
        notes = []
        if price is None:
            notes.append("the price of a model unit is shown in the console: throughput.unit_usd")
        if units.commitment and price is not None:
            days = COMMITMENT_DAYS[units.commitment]
            notes.append(
                f"COMMITMENT: {days} days, ${price * 24 * days:,.0f} in total, paid even if it is "
                f"not used; it cannot be deleted before"
            )
        end = end_words(end_tags(request.spec.end))
        return DeploymentQuote(
            what=f"{units.units} × model unit of provisioned throughput",
            hourly_usd=price,
            idle_usd=price,
            most_usd=None,
            removed=f"after its commitment, {end}" if units.commitment else end,
            source="throughput.unit_usd",
            notes=tuple(notes),
        )

    def state(self, described: Mapping[str, Any]) -> DeploymentState:
        """Return the state of a throughput."""
        return _STATES[described["status"]]

    def detail(self, described: Mapping[str, Any]) -> str:
        """Return the units, the end of a commitment and the reason of a failure."""
        units = described["modelUnits"]
        details = [f"{units} model unit{'s' if units > 1 else ''}"]
        if end := described.get("commitmentExpirationTime"):
            details.append(f"committed until {end:%F}")
        if reason := described.get("failureMessage"):
            details.append(reason)
        return "; ".join(details)

    def read(self, identifier: str) -> dict[str, Any] | None:
        """Return the description of a throughput by name or ARN, None if it does not exist."""
        return self.calls.get("get_provisioned_model_throughput", provisionedModelId=identifier)

    def create(self, request: DeploymentRequest, model: str) -> None:
        """Begin to provision a throughput."""
        units = request.spec.throughput or ProvisionedUnits()
        tags = request_tags(self.account, request)
        if units.unit_usd is not None:
            tags[tag.HOURLY_USD] = f"{units.units * units.unit_usd:g}"
        commitment = {"commitmentDuration": units.commitment} if units.commitment else {}
        self.calls.client.create_provisioned_model_throughput(
            provisionedModelName=self.name(request.spec.name),
            modelId=model,
            modelUnits=units.units,
            tags=tag_list(tags),
            clientRequestToken=uuid.uuid4().hex,
            **commitment,
        )

    def update(self, arn: str, model: str) -> None:
        """Begin to put another custom model behind a throughput."""
        self.calls.client.update_provisioned_model_throughput(
            provisionedModelId=arn, desiredModelId=model
        )

    def delete(self, described: Mapping[str, Any]) -> None:
        """Delete a throughput.

        Raises:
            DeployModelError: It has a commitment, which is paid to its end.
        """
        self._refuse_committed(described)
        self.calls.client.delete_provisioned_model_throughput(
            provisionedModelId=described[self.arn_key]
        )

    def deploy(self, request: DeploymentRequest) -> Deployment:
        """Provision throughput for a version, or continue what was interrupted."""
        deployment = super().deploy(request)
        schedule_end(self.account, request.spec.name, request.spec.end)
        return deployment

    def swap(self, request: DeploymentRequest) -> Deployment:
        """Put another version behind the ARN of a throughput."""
        deployment = super().swap(request)
        schedule_end(self.account, request.spec.name, request.spec.end)
        return deployment

    def undeploy(self, name: str) -> None:
        """Delete a throughput and its custom models; a repetition is no error."""
        super().undeploy(name)
        cancel_end(self.account, name)

    def _refuse_committed(self, described: Mapping[str, Any]) -> None:
        """Raise if a throughput has a commitment, which is paid to its end.

        Raises:
            DeployModelError: It has one.
        """
        end = described.get("commitmentExpirationTime")
        now = datetime.now(UTC)
        if end is None or described["status"] == "Failed" or now >= end:
            return
        hourly = self.calls.tags(described["provisionedModelArn"]).get(tag.HOURLY_USD)
        hours = (end - now).total_seconds() / 3600
        total = f", another ${float(hourly) * hours:,.0f}" if hourly else ""
        raise DeployModelError(
            f"{described['provisionedModelName']} is committed until {end:%F %R} UTC and is paid "
            f"until then{total}. Bedrock does not delete it before: run the same command after it"
        )
