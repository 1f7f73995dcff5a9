"""Emulated import of models into Bedrock: jobs, imported models, and their deletion.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_CreateModelImportJob.html. A job reads
the model from the emulated S3 when its time has passed, and compares it with the rules of the
Bedrock User Guide (`launch.aws.import_check`); a model that breaks them fails the job. An error
code that the documentation does not fix is the one that the operation's description lists.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from emulator.bedrock_account import BedrockAccount, BedrockResources, reject_conflict
from emulator.request_validation import check_role, reject
from emulator.s3_sync import EmulatedBucket
from launch.aws.import_check import chat_template, check_import, converse_supported
from launch.aws.s3 import S3Uri

UNITS_PER_COPY = 2
"""Custom Model Units of a copy of every model here; Bedrock derives them from the model."""
_JOB_SUMMARY = (
    *("jobArn", "jobName", "status", "lastModifiedTime", "creationTime", "endTime"),
    *("importedModelArn", "importedModelName"),
)
_MODEL_SUMMARY = ("modelArn", "modelName", "creationTime", "instructSupported", "modelArchitecture")


class ImportApi:
    """Import jobs and imported models.

    Args:
        account: The account.
    """

    def __init__(self, account: BedrockAccount):
        self._account = account
        self.jobs = BedrockResources(account, "jobArn", "jobName")
        self.models = BedrockResources(account, "modelArn", "modelName")

    def folder(self, model: dict[str, Any]) -> Path:
        """Return the folder of an imported model's files."""
        return self._account.folder("imported", model["modelArn"])

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start an import (CreateModelImportJob).

        Raises:
            RequestRejected: A name is in use, or the role cannot be assumed.
        """
        account = self._account
        check_role(request["roleArn"], account.client, "bedrock.amazonaws.com")
        if not request["modelDataSource"]:
            reject("modelDataSource has no s3DataSource")

        def create(arn: str) -> None:
            self._check_names(request)
            now = account.now()
            kept = ("jobName", "importedModelName", "roleArn", "modelDataSource", "vpcConfig")
            self.jobs.add(
                {
                    "jobArn": arn,
                    **{key: request[key] for key in kept if key in request},
                    "status": "InProgress",
                    "creationTime": now,
                    "lastModifiedTime": now,
                },
                request.get("jobTags", ()),
            )

        def start(arn: str) -> None:
            job, tags = self.jobs.get(arn), request.get("importedModelTags", [])
            account.clock.call_later(account.timings.import_s, lambda: self._import(job, tags))

        return {"jobArn": account.create_once(request, "model-import-job", create, start)}

    def _check_names(self, request: dict[str, Any]) -> None:
        if self.jobs.find(request["jobName"]):
            reject_conflict(f"A model import job named {request['jobName']} already exists")
        name = request["importedModelName"]
        running = (j for j in self.jobs.all() if j["status"] == "InProgress")
        if self.models.find(name) or any(j["importedModelName"] == name for j in running):
            reject_conflict(f"An imported model named {name} already exists")

    def _import(self, job: dict[str, Any], tags: list[dict[str, str]]) -> None:
        """End a job: with a model, or with the reasons why there is none."""
        account = self._account
        now = account.now()
        arn = account.arn("imported-model")
        model = {
            "modelArn": arn,
            "modelName": job["importedModelName"],
            "jobName": job["jobName"],
            "jobArn": job["jobArn"],
            "modelDataSource": job["modelDataSource"],
            "creationTime": now,
        }
        failure = self._read(job, model)
        job |= {"lastModifiedTime": now, "endTime": now}
        if failure:
            job |= {"status": "Failed", "failureMessage": failure[:2048]}
            return
        self.models.add(model, tags)
        job |= {"status": "Completed", "importedModelArn": arn}

    def _read(self, job: dict[str, Any], model: dict[str, Any]) -> str:
        """Download and check a model, and complete its description; return why it is refused."""
        account = self._account
        if account.faults.failed_imports:
            return account.faults.failed_imports.pop(0)
        address = job["modelDataSource"]["s3DataSource"]["s3Uri"].rstrip("/") + "/"
        folder = self.folder(model)
        if not EmulatedBucket(account.client("s3")).download(S3Uri.parse(address), folder):
            return f"There are no files at {address}"
        findings = list(check_import(folder, account.region))
        if refused := [finding.message for finding in findings if finding.refused]:
            return "; ".join(refused)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        family = str(config["model_type"])
        model |= {
            "modelArchitecture": family,
            "instructSupported": converse_supported(family, template=chat_template(folder)),
            "customModelUnits": {
                "customModelUnitsPerModelCopy": UNITS_PER_COPY,
                "customModelUnitsVersion": "v1.0",
            },
        }
        return ""

    def get_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return an import job (GetModelImportJob)."""
        return self.jobs.get(request["jobIdentifier"])

    def list_jobs(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return import jobs (ListModelImportJobs)."""
        jobs, more = self.jobs.page(request, "creationTime", statusEquals="status")
        summaries = [{key: job[key] for key in _JOB_SUMMARY if key in job} for job in jobs]
        return {"modelImportJobSummaries": summaries, **more}

    def get_model(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return an imported model (GetImportedModel)."""
        return self.models.get(request["modelIdentifier"])

    def list_models(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return imported models (ListImportedModels)."""
        models, more = self.models.page(request, "creationTime")
        summaries = [{key: model[key] for key in _MODEL_SUMMARY} for model in models]
        return {"modelSummaries": summaries, **more}

    def delete_model(self, request: dict[str, Any]) -> dict[str, Any]:
        """Delete an imported model (DeleteImportedModel). Its job, and the job's name, remain."""
        self.models.remove(self.models.get(request["modelIdentifier"]))
        return {}
