"""Whether a run's model serves somebody: it was imported into Bedrock under the run's own name.

    aws bedrock create-model-import-job --job-name JOB --imported-model-name JOB …

JOB is the name of the training job, as `make status RUN=…` shows it. Bedrock serves an imported
model on demand, so it is deployed from the end of the import until it is deleted there.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from botocore.exceptions import ClientError

from launch.aws.session import code_of, explained
from launch.status import Status

_UNKNOWN = ("ResourceNotFoundException", "ValidationException")


def with_serving(bedrock: Any, name: str, trained: Status) -> Status:
    """Return the status of a run whose training is done, with what Bedrock knows of its model.

    Args:
        bedrock: A client.
        name: Of the training job.
        trained: As last seen.

    Raises:
        LaunchError: Bedrock could not be asked.
    """
    found = dataclasses.replace(trained, state="not deployed", detail="")
    job = _get(bedrock.get_model_import_job, jobIdentifier=name)
    if job is None:
        return found
    if job["status"] == "InProgress":
        return dataclasses.replace(
            found, state="deploying", detail="Bedrock is importing its model"
        )
    if job["status"] == "Failed":
        why = str(job.get("failureMessage", "")).strip()
        return dataclasses.replace(found, detail=f"Bedrock could not import its model: {why}")
    model = job.get("importedModelName", name)
    if _get(bedrock.get_imported_model, modelIdentifier=model) is None:
        return dataclasses.replace(found, detail=f"Bedrock no longer has {model}")
    return dataclasses.replace(found, state="deployed", detail=f"Bedrock serves it as {model}")


def _get(call: Any, **asked: str) -> dict[str, Any] | None:
    """Return an answer of Bedrock, or None where it knows nothing of that name."""
    with explained("asking Bedrock for the model"):
        try:
            return dict(call(**asked))
        except ClientError as error:
            if code_of(error) in _UNKNOWN:
                return None
            raise
