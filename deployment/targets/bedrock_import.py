"""Deployment to Bedrock by the import of a model, which answers on demand.

Bedrock serves an imported model while it is called, and is paid for windows of five minutes of each
copy; without calls only its storage is. Each version is a model of its own with its own ARN: a swap
imports the new one, and the old one is kept until the next swap.
https://docs.aws.amazon.com/bedrock/latest/userguide/model-customization-import-model.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import catalog.deployment_tags as tag
from catalog.bedrock_import import REGIONS, UNIT_STORAGE_USD, UNIT_USD_PER_MINUTE
from deployment.account import DeploymentAccount
from deployment.bedrock.import_problems import import_problems
from deployment.bedrock.imported_models import ROLE, ImportedModel, ImportedModels
from deployment.bedrock.options import end_problems, option_problems
from deployment.errors import DeployModelError, RolledBackError
from deployment.quote import HOURS_PER_MONTH, DeploymentQuote
from deployment.record import Deployment, model_of_tags
from deployment.targets.base import DeploymentRequest, require, versioned_name
from launch.aws.session import explain_aws_errors
from training.console import say
from training.errors import Problem
from training.export.transformers_4 import FORMAT

_READY_S = 1800.0
_NOT_READY = ("ModelNotReadyException",)


def connect(account: DeploymentAccount) -> BedrockImportTarget:
    """Return the target in an account."""
    return BedrockImportTarget(account)


class BedrockImportTarget:
    """Models that Bedrock imported.

    Args:
        account: The account.
    """

    kind = "bedrock-import"
    form: str | None = FORMAT

    def __init__(self, account: DeploymentAccount):
        self._account = account
        self._models = ImportedModels(account)

    def problems(self, request: DeploymentRequest) -> Iterator[Problem]:
        """Yield everything that would make the deployment fail, before any resource is created."""
        yield from option_problems(request, "throughput")
        yield from end_problems(request)
        region = self._account.environment.region
        if self._account.platform.get(ROLE) is None:
            name = self._account.environment.name
            yield Problem(
                "--env",
                f"the environment has no {ROLE}, the role that reads the model for Bedrock",
                name,
                f"Deploy it again: make deploy ENV={name}",
            )
        if region in REGIONS:
            yield from import_problems(self._account, request.model)
        else:
            where = ", ".join(REGIONS)
            yield Problem("--env", "Bedrock imports no models in its Region", region, where)
        name = versioned_name(self._account, request)
        model = self._models.calls.get("get_imported_model", modelIdentifier=name)
        owner = self._models.calls.tags(model["modelArn"]).get(tag.DEPLOYMENT) if model else None
        if model is not None and owner != request.spec.name:
            yield Problem(
                "name",
                f"Bedrock has an imported model {name} of {owner or 'someone else'}",
                request.spec.name,
                "Choose another --name",
            )

    def quote(self, request: DeploymentRequest) -> DeploymentQuote:
        """Return the price of one Custom Model Unit, since an import determines their number."""
        low, high = (60 * usd for usd in UNIT_USD_PER_MINUTE)
        return DeploymentQuote(
            what="Bedrock import, on demand; prices of one Custom Model Unit of one copy",
            hourly_usd=high,
            idle_usd=UNIT_STORAGE_USD / HOURS_PER_MONTH,
            most_usd=None,
            removed="by `temper undeploy` alone",
            source=f"public reports name ${low:.2f} and ${high:.2f}",
            notes=(
                "Bedrock reports the units of a copy after the import, adds copies under load, and "
                "counts windows of 5 minutes",
                "after an hour or so without a call, the first ones fail with "
                "ModelNotReadyException while it is loaded",
            ),
        )

    def find(self, name: str) -> Deployment | None:
        """Return the deployment of a name, None if there is none."""
        return next((one for one in self.list() if one.name == name), None)

    def list(self) -> list[Deployment]:
        """Return all deployments of the environment."""
        by_name = _by_deployment(self._models.all())
        found = {name: self._deployment(models) for name, models in by_name.items()}
        for job, tags in self._models.jobs():
            name, before = tags[tag.DEPLOYMENT], found.get(tags[tag.DEPLOYMENT])
            found[name] = Deployment(
                name=name,
                to=self.kind,
                state="deploying",
                model=before.model if before else model_of_tags(tags),
                address=before.address if before else "",
                detail=f"{job['jobName']} imports {model_of_tags(tags)}",
                tags=before.tags if before else tags,
                created=job["creationTime"],
            )
        return list(found.values())

    def _deployment(self, models: Sequence[ImportedModel]) -> Deployment:
        """Return a deployment from its models, the one that serves last."""
        *others, model = models
        described = self._models.calls.get("get_imported_model", modelIdentifier=model.arn) or {}
        units = described.get("customModelUnits", {}).get("customModelUnitsPerModelCopy")
        converse = "Converse and InvokeModel" if described.get("instructSupported") else None
        details = [f"{converse or 'InvokeModel, not Converse,'} answer"]
        if units:
            low, high = (60 * usd * units for usd in UNIT_USD_PER_MINUTE)
            details.append(f"{units} units a copy: ${low:.2f} to ${high:.2f} an active hour")
        details += [f"{model_of_tags(one.tags)} is still imported" for one in others]
        return Deployment(
            name=model.tags[tag.DEPLOYMENT],
            to=self.kind,
            state="deployed",
            model=model_of_tags(model.tags),
            address=model.arn,
            detail="; ".join(details),
            tags=model.tags,
            created=model.created,
        )

    def deploy(self, request: DeploymentRequest) -> Deployment:
        """Import a version, or continue an import that was interrupted, and wait for its end.

        Raises:
            DeployModelError: It failed, with Bedrock's reason.
        """
        self._models.ensure(request)
        if request.verify is not None:
            request.verify()
        return require(self, request.spec.name)

    def swap(self, request: DeploymentRequest) -> Deployment:
        """Import another version, and let the deployment be served by it.

        The version before is kept until the next swap, since applications call it by its ARN.

        Raises:
            RolledBackError: The new version does not answer as it should, and was deleted.
            DeployModelError: It failed, with Bedrock's reason.
        """
        name = request.spec.name
        models = self._models.of(name)
        before = [one for one in models if model_of_tags(one.tags) != request.model.id]
        if not models:
            raise DeployModelError(f"{name} does not exist. Deploy it first: temper deploy-model")
        try:
            arn = self._models.ensure(request)
        except DeployModelError as error:
            serving = model_of_tags(models[-1].tags)
            raise DeployModelError(f"{error}. {serving} serves, at {models[-1].arn}") from None
        self._models.put_in_place(arn)
        try:
            if request.verify is not None:
                request.verify()
        except DeployModelError as error:
            if not before:
                raise
            self._models.put_in_place(before[-1].arn)
            self._models.delete(arn)
            serving = model_of_tags(before[-1].tags)
            raise RolledBackError(f"{error}. {serving} serves, at {before[-1].arn}") from None
        for model in before[:-1]:
            self._models.delete(model.arn)
        say(f"applications call {request.model.id} by another ARN: {arn}")
        if before:
            say(
                f"until the next swap, {model_of_tags(before[-1].tags)} answers at {before[-1].arn}"
            )
        return require(self, name)

    def undeploy(self, name: str) -> None:
        """Delete all models of a deployment; a repetition is no error."""
        self._models.delete_all(name)

    def serving_since(self, name: str) -> datetime | None:
        """Return when the version that serves was put in place."""
        deployment = self.find(name)
        since = deployment.tags.get(tag.SINCE) if deployment else None
        return datetime.fromisoformat(since) if since else None

    def ask(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of a deployment to a body of OpenAI's protocol.

        A model that is not in memory is asked again until it is loaded.

        Raises:
            DeployModelError: It was deleted, is not loaded in time, or answers with no JSON object.
        """
        arn = require(self, name).address
        answer = self._account.polling.until(
            lambda: self._invoke(arn, body),
            lambda text: text is not None,
            what=f"the load of {arn}",
            timeout_s=_READY_S,
        )
        content = json.loads(answer or "null")
        if not isinstance(content, dict):
            raise DeployModelError(f"{arn} did not answer with a JSON object: {answer}")
        return content

    def _invoke(self, arn: str, body: Mapping[str, Any]) -> str | None:
        """Return the text of an answer, None if the model is not in memory."""
        with explain_aws_errors(f"asking {arn}", ignore=_NOT_READY):
            answer = self._account.client("bedrock-runtime").invoke_model(
                modelId=arn,
                contentType="application/json",
                accept="application/json",
                body=json.dumps(body).encode(),
            )
            return str(answer["body"].read().decode("utf-8", errors="replace"))
        return None


def _by_deployment(models: Iterable[ImportedModel]) -> dict[str, list[ImportedModel]]:
    """Return the models of each deployment in the given order."""
    found: dict[str, list[ImportedModel]] = {}
    for model in models:
        found.setdefault(model.tags[tag.DEPLOYMENT], []).append(model)
    return found
