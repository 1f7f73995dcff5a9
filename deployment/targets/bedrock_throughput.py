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
from deployment.bedrock.calls import (
    NOT_FOUND,
    BedrockCalls,
    model_of,
    request_tags,
    tag_list,
)
from deployment.bedrock.custom_models import CustomModels
from deployment.bedrock.options import option_problems
from deployment.errors import DeployModelError, RolledBackError
from deployment.lifetime import cancel_end, schedule_end
from deployment.quote import DeploymentQuote
from deployment.record import Deployment, DeploymentState, end_tags, end_words
from deployment.spec import ProvisionedUnits
from deployment.targets.base import DeploymentRequest
from launch.aws.session import explain_aws_errors
from training.errors import Problem

_STATES: Mapping[str, DeploymentState] = {
    "Creating": "deploying",
    "Updating": "deploying",
    "InService": "deployed",
    "Failed": "failed",
}
_HOURS = 6 * 3600.0


def connect(account: DeploymentAccount) -> BedrockThroughputTarget:
    """Return the target in an account."""
    return BedrockThroughputTarget(account)


class BedrockThroughputTarget:
    """Provisioned throughput of custom models.

    Args:
        account: The account.
    """

    kind = "bedrock-throughput"
    form: str | None = None

    def __init__(self, account: DeploymentAccount):
        self._account, self._calls = account, BedrockCalls(account)
        self._models = CustomModels(account)

    def problems(self, request: DeploymentRequest) -> Iterator[Problem]:
        """Yield everything that would make the deployment fail, before anything is made."""
        yield from option_problems(request, "form")
        yield from self._models.problems(request)
        described = self._describe(request.spec.name)
        if described is None:
            return
        if tag.DEPLOYMENT not in self._calls.tags(described["provisionedModelArn"]):
            yield Problem(
                "name",
                "a throughput of this name was not made by `temper deploy-model`",
                described["provisionedModelName"],
                "Choose another --name",
            )
        base = self._models.base(request)
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
            notes.append("AWS tells the price of a model unit in the console: throughput.unit_usd")
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

    def find(self, name: str) -> Deployment | None:
        """Return the deployment of a name, None if there is none."""
        described = self._describe(name)
        return None if described is None else self._deployment(described)

    def list(self) -> list[Deployment]:
        """Return all deployments of the environment."""
        key = "provisionedModelSummaries"
        summaries = self._calls.list("list_provisioned_model_throughputs", key)
        found = (self._deployment(summary) for summary in summaries)
        return [deployment for deployment in found if deployment is not None]

    def _deployment(self, described: Mapping[str, Any]) -> Deployment | None:
        """Return a deployment from its throughput, None if it is not one."""
        tags = self._calls.tags(described["provisionedModelArn"])
        if tag.DEPLOYMENT not in tags:
            return None
        units = described["modelUnits"]
        details = [f"{units} model unit{'s' if units > 1 else ''}"]
        if end := described.get("commitmentExpirationTime"):
            details.append(f"committed until {end:%F}")
        if reason := described.get("failureMessage"):
            details.append(reason)
        return Deployment(
            name=tags[tag.DEPLOYMENT],
            to=self.kind,
            state=_STATES[described["status"]],
            model=model_of(tags),
            address=described["provisionedModelArn"],
            detail="; ".join(details),
            tags=tags,
            created=described["creationTime"],
        )

    def deploy(self, request: DeploymentRequest) -> Deployment:
        """Provision throughput for a version, or continue what was interrupted.

        Raises:
            DeployModelError: It failed, with Bedrock's reason.
        """
        name = request.spec.name
        model = self._models.ensure(request)
        described = self._describe(name)
        if described is not None and described["status"] == "Failed":
            self._delete(described["provisionedModelArn"])
            described = None
        if described is None:
            self._create(request, model)
        described = self._settled(name)
        if described["status"] != "InService":
            reason = described.get("failureMessage") or "Bedrock gives no reason"
            raise DeployModelError(
                f"{self._name(name)} failed: {reason}. The same command provisions it again"
            )
        schedule_end(self._account, name, request.spec.end)
        return self._found(name)

    def _create(self, request: DeploymentRequest, model: str) -> None:
        units = request.spec.throughput or ProvisionedUnits()
        tags = request_tags(self._account, request)
        if units.unit_usd is not None:
            tags[tag.HOURLY_USD] = f"{units.units * units.unit_usd:g}"
        commitment = {"commitmentDuration": units.commitment} if units.commitment else {}
        with explain_aws_errors(f"provisioning throughput for {request.model.id}"):
            self._calls.client.create_provisioned_model_throughput(
                provisionedModelName=self._name(request.spec.name),
                modelId=model,
                modelUnits=units.units,
                tags=tag_list(tags),
                clientRequestToken=uuid.uuid4().hex,
                **commitment,
            )

    def swap(self, request: DeploymentRequest) -> Deployment:
        """Put another version behind the ARN of a throughput.

        Raises:
            RolledBackError: Bedrock kept the version before.
            DeployModelError: There is no throughput, or its model could not be created.
        """
        name = request.spec.name
        if self._describe(name) is None:
            raise DeployModelError(f"{name} does not exist. Deploy it first: temper deploy-model")
        model = self._models.ensure(request)
        before = self._settled(name)
        arn = before["provisionedModelArn"]
        if before["modelArn"] != model:
            with explain_aws_errors(f"serving {request.model.id} as {name}"):
                self._calls.client.update_provisioned_model_throughput(
                    provisionedModelId=arn, desiredModelId=model
                )
            # A throughput whose update failed is in service, with the model before.
            after = self._settled(name)
            if after["modelArn"] != model:
                self._models.delete_all(name, keep=after["modelArn"])
                serving, reason = model_of(self._calls.tags(arn)), after.get("failureMessage")
                raise RolledBackError(
                    f"Bedrock kept the model before: {reason or 'it gives no reason'}. {serving} "
                    f"serves"
                )
        self._calls.set_tags(arn, request.tags)
        self._models.delete_all(name, keep=model)
        schedule_end(self._account, name, request.spec.end)
        return self._found(name)

    def undeploy(self, name: str) -> None:
        """Delete a throughput and its custom models; a repetition is no error.

        Raises:
            DeployModelError: It has a commitment, which is paid to its end.
        """
        described = self._describe(name)
        if described is not None and self._deployment(described) is not None:
            settled = self._settled(name)
            self._refuse_committed(settled)
            self._delete(settled["provisionedModelArn"])
            described = None
        if described is None:
            self._models.delete_all(name)
            cancel_end(self._account, name)

    def _refuse_committed(self, described: Mapping[str, Any]) -> None:
        """Raise if a throughput cannot be deleted yet.

        Raises:
            DeployModelError: It has a commitment.
        """
        end = described.get("commitmentExpirationTime")
        now = datetime.now(UTC)
        if end is None or described["status"] == "Failed" or now >= end:
            return
        hourly = self._calls.tags(described["provisionedModelArn"]).get(tag.HOURLY_USD)
        hours = (end - now).total_seconds() / 3600
        total = f", another ${float(hourly) * hours:,.0f}" if hourly else ""
        raise DeployModelError(
            f"{described['provisionedModelName']} is committed until {end:%F %R} UTC and is paid "
            f"until then{total}. Bedrock does not delete it before: run the same command after it"
        )

    def _name(self, name: str) -> str:
        return self._account.resource_name(name)

    def _describe(self, name: str) -> dict[str, Any] | None:
        return self._calls.get(
            "get_provisioned_model_throughput", provisionedModelId=self._name(name)
        )

    def _settled(self, name: str) -> dict[str, Any]:
        """Return a throughput that is neither created nor updated any more.

        Raises:
            DeployModelError: It was removed meanwhile.
        """
        described = self._account.polling.until(
            lambda: self._describe(name),
            lambda found: found is None or found["status"] not in ("Creating", "Updating"),
            what=f"the throughput {self._name(name)}",
            timeout_s=_HOURS,
        )
        if described is None:
            raise DeployModelError(f"{name} was removed by someone else")
        return described

    def _delete(self, arn: str) -> None:
        with explain_aws_errors(f"deleting {arn}", ignore=NOT_FOUND):
            self._calls.client.delete_provisioned_model_throughput(provisionedModelId=arn)

    def _found(self, name: str) -> Deployment:
        deployment = self.find(name)
        if deployment is None:
            raise DeployModelError(f"{name} was removed by someone else")
        return deployment
