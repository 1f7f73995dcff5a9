"""Imported models of deployments: imported once, found by their tags, deleted.

The name of an import job is never free again, so that jobs of one model are numbered. A model that
is imported for another version has an ARN of its own: of several, the one that was put in place
last serves the deployment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import catalog.deployment_tags as tag
from deployment.account import DeploymentAccount
from deployment.bedrock.calls import (
    CONFLICT,
    NOT_FOUND,
    BedrockCalls,
    request_tags,
    tag_list,
)
from deployment.errors import DeployModelError
from deployment.targets.base import DeploymentRequest, versioned_name
from launch.aws.session import explain_aws_errors
from training.console import say

ROLE = "roles/bedrock-import"
"""Parameter of the role that reads the models."""
_HOURS = 6 * 3600.0
_MAX_JOB_NAME = 63


@dataclass(frozen=True)
class ImportedModel:
    """Imported model of a deployment.

    Attributes:
        arn: Its ARN.
        created: Time of its creation.
        tags: Its tags.
    """

    arn: str
    created: datetime
    tags: dict[str, str]


class ImportedModels:
    """Imported models of an environment.

    Args:
        account: Account of the deployments.
    """

    def __init__(self, account: DeploymentAccount):
        self._account, self.calls = account, BedrockCalls(account)

    def of(self, deployment: str) -> list[ImportedModel]:
        """Return the models of a deployment, the one that serves it last."""
        return [model for model in self.all() if model.tags[tag.DEPLOYMENT] == deployment]

    def all(self) -> list[ImportedModel]:
        """Return the models of all deployments, the one that was put in place last at the end."""
        found = []
        for summary in self.calls.list("list_imported_models", "modelSummaries"):
            tags = self.calls.tags(summary["modelArn"])
            if tag.DEPLOYMENT in tags and self._is_ours(summary["modelName"]):
                found.append(ImportedModel(summary["modelArn"], summary["creationTime"], tags))
        return sorted(found, key=lambda model: model.tags.get(tag.SINCE, ""))

    def jobs(self) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
        """Yield the imports of deployments that are in progress, with their tags."""
        for job in self.calls.list(
            "list_model_import_jobs", "modelImportJobSummaries", statusEquals="InProgress"
        ):
            tags = self.calls.tags(job["jobArn"])
            if tag.DEPLOYMENT in tags and self._is_ours(job["jobName"]):
                yield job, tags

    def _is_ours(self, name: str) -> bool:
        return name.startswith(f"{self._account.environment.prefix}-")

    def ensure(self, request: DeploymentRequest) -> str:
        """Import a version unless it is imported, and return the ARN of the model.

        Raises:
            DeployModelError: The import failed, or the name is in use.
        """
        name = versioned_name(self._account, request)
        model = self.calls.get("get_imported_model", modelIdentifier=name)
        if model is None:
            self._wait(self._running(name) or self._start(name, request))
            model = self.calls.get("get_imported_model", modelIdentifier=name)
        if model is None:
            raise DeployModelError(f"Bedrock imported {name}, and it was deleted since")
        source = model["modelDataSource"]["s3DataSource"]["s3Uri"]
        if source.rstrip("/") != request.model.folder.rstrip("/"):
            raise DeployModelError(
                f"{name} was imported from {source}, and the files of {request.model.id} are in "
                f"{request.model.folder}. Delete it if it is not in use: aws bedrock "
                f"delete-imported-model --model-identifier {name}"
            )
        return str(model["modelArn"])

    def put_in_place(self, arn: str) -> None:
        """Let a model serve its deployment, whatever other models it has."""
        self.calls.set_tags(arn, {tag.SINCE: _now()})

    def _running(self, name: str) -> str | None:
        """Return the name of the import of a model that is in progress, if there is one."""
        for job in self._jobs_of(name):
            if job["importedModelName"] == name and job["status"] == "InProgress":
                return str(job["jobName"])
        return None

    def _jobs_of(self, name: str) -> list[dict[str, Any]]:
        jobs = self.calls.list("list_model_import_jobs", "modelImportJobSummaries")
        return [job for job in jobs if job["importedModelName"] == name]

    def _start(self, name: str, request: DeploymentRequest) -> str:
        """Start an import and return the name of its job.

        Raises:
            DeployModelError: Another import has taken its name.
        """
        number = 1 + len(self._jobs_of(name))
        job = f"{name[: _MAX_JOB_NAME - 4]}-{number}"
        tags = tag_list({**request_tags(self._account, request), tag.SINCE: _now()})
        say(f"importing {request.model.id} into Bedrock as {name} (job {job})")
        with explain_aws_errors(f"importing {request.model.id}", ignore=CONFLICT):
            self.calls.client.create_model_import_job(
                jobName=job,
                importedModelName=name,
                roleArn=self._account.platform[ROLE],
                modelDataSource={"s3DataSource": {"s3Uri": request.model.folder}},
                jobTags=tags,
                importedModelTags=tags,
                clientRequestToken=job,  # a reply that is lost starts no second import
            )
            return job
        running = self._running(name)
        if running is None:
            raise DeployModelError(
                f"Bedrock has a model or an import job of the name {name} that is not listed. Run "
                f"the same command again, or register another version"
            )
        return running

    def _ended(self, job: str) -> dict[str, Any]:
        """Return the description of an import when it has ended; empty if it does not exist."""
        return self._account.polling.until(
            lambda: self.calls.get("get_model_import_job", jobIdentifier=job) or {},
            lambda found: found.get("status") != "InProgress",
            what=f"the import {job}",
            timeout_s=_HOURS,
        )

    def _wait(self, job: str) -> None:
        """Wait until an import has ended.

        Raises:
            DeployModelError: It failed.
        """
        ended = self._ended(job)
        if ended.get("status") != "Completed":
            reason = ended.get("failureMessage") or "Bedrock gives no reason"
            raise DeployModelError(
                f"the import {job} failed: {reason}. The same command imports it again"
            )

    def delete(self, arn: str) -> None:
        """Delete a model; if it does not exist, nothing happens."""
        with explain_aws_errors(f"deleting {arn}", ignore=NOT_FOUND):
            self.calls.client.delete_imported_model(modelIdentifier=arn)

    def delete_all(self, deployment: str) -> None:
        """Delete the models of a deployment, also those that are being imported.

        Bedrock has no operation that stops an import, so that its end is awaited.
        """
        for job, tags in self.jobs():
            if tags[tag.DEPLOYMENT] == deployment:
                say(f"waiting for the end of the import {job['jobName']}, which cannot be stopped")
                self._ended(str(job["jobName"]))
        for model in self.of(deployment):
            self.delete(model.arn)


def _now() -> str:
    return datetime.now(UTC).isoformat()
