"""Deployment status of a run's model in Bedrock, by the name under which it was imported.

    aws bedrock create-model-import-job --job-name JOB --imported-model-name JOB …

JOB is the name of the training job, as `temper status RUN` shows it. Bedrock serves an imported
model on demand, so it counts as deployed from the end of the import until it is deleted there.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from launch.aws.session import explain_aws_errors
from launch.status import Status

_NOT_FOUND = ("ResourceNotFoundException", "ValidationException")


def deployment_status(bedrock: Any, job_name: str, trained: Status) -> Status:
    """Return the status of a trained run, with the deployment of its model in Bedrock.

    Args:
        bedrock: boto3 client of `bedrock`.
        job_name: Name of the training job.
        trained: Status of the run when training ended.

    Raises:
        LaunchError: Bedrock could not be reached, or denied the request.
    """
    status = dataclasses.replace(trained, state="not deployed", detail="")
    job = _get(bedrock.get_model_import_job, jobIdentifier=job_name)
    if job is None:
        return status
    if job["status"] == "InProgress":
        return dataclasses.replace(
            status, state="deploying", detail="Bedrock is importing its model"
        )
    if job["status"] == "Failed":
        reason = str(job.get("failureMessage", "")).strip()
        return dataclasses.replace(status, detail=f"Bedrock could not import its model: {reason}")
    model = job.get("importedModelName", job_name)
    if _get(bedrock.get_imported_model, modelIdentifier=model) is None:
        return dataclasses.replace(status, detail=f"Bedrock no longer has {model}")
    return dataclasses.replace(status, state="deployed", detail=f"Bedrock serves it as {model}")


def _get(operation: Any, **arguments: str) -> dict[str, Any] | None:
    """Return the response of an operation, or None if Bedrock has nothing of that name."""
    with explain_aws_errors("reading the model's status from Bedrock", ignore=_NOT_FOUND):
        return dict(operation(**arguments))
    return None
