"""Lambda steps of a pipeline: address of prepared data, the version in production, promotion."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import boto3

_APPROVED, _PRODUCTION = "Approved", "production"


def handler(event: dict[str, Any], context: object) -> dict[str, str]:
    """Run as the Lambda entry point; `event["action"]` names the step.

    Raises:
        ValueError: If the action is not known.
    """
    actions = {"prepared": _prepared, "champion": _champion, "promote": _promote}
    if event.get("action") not in actions:
        raise ValueError(f"action: {event.get('action')!r} is none of {', '.join(actions)}")
    answer = actions[event["action"]](event, boto3.client)
    sys.stdout.write(json.dumps({"event": event, "answer": answer}) + "\n")
    return answer


def _prepared(event: dict[str, Any], client: Callable[[str], Any]) -> dict[str, str]:
    """Return the folder of a data set, the last line of what its preparation says.

    Raises:
        ValueError: If it names none.
    """
    lines = str(event["message"]).strip().splitlines()
    folder = lines[-1].strip() if lines else ""
    if not folder.startswith("s3://"):
        raise ValueError(f"the preparation names no folder in S3: {event['message']!r}")
    return {"folder": f"{folder.rstrip('/')}/", "digest": folder.rstrip("/").rpartition("/")[2]}


def _champion(event: dict[str, Any], client: Callable[[str], Any]) -> dict[str, str]:
    """Return the files of the version in production, or those of a folder without a model."""
    if event.get("address"):
        return {"folder": event["address"], "version": event["address"]}
    sagemaker = client("sagemaker")
    pages = sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=event["group"],
        ModelApprovalStatus=_APPROVED,
        SortBy="CreationTime",
        SortOrder="Descending",
    )
    for page in pages:
        for summary in page["ModelPackageSummaryList"]:
            package = sagemaker.describe_model_package(ModelPackageName=summary["ModelPackageArn"])
            found = package.get("CustomerMetadataProperties") or {}
            if found.get("temper-name") != event["model"]:
                continue
            if found.get("temper-stage") == _PRODUCTION:
                version = f"{event['model']}@{found.get('temper-version')}"
                return {"folder": _files_of(package), "version": version}
    return {"folder": event["nothing"], "version": "none"}


def _files_of(package: dict[str, Any]) -> str:
    """Return the address of the files of a package.

    Raises:
        ValueError: If it has none.
    """
    for container in package.get("InferenceSpecification", {}).get("Containers", ()):
        source = container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri")
        if source or container.get("ModelDataUrl"):
            return str(source or container["ModelDataUrl"])
    raise ValueError(f"{package['ModelPackageArn']} has no files")


def _promote(event: dict[str, Any], client: Callable[[str], Any]) -> dict[str, str]:
    """Start the promotion of a registered model; without one, its approval is left to people."""
    name = os.environ.get("PROMOTION")
    if not name:
        return {"promotion": "none"}
    variables = {"PIPELINE": f"pipelines/{event['pipeline']}.yaml", "PACKAGE": event["package"]}
    codepipeline = client("codepipeline")
    answer = codepipeline.start_pipeline_execution(
        name=name,
        variables=[{"name": key, "value": value} for key, value in variables.items()],
        clientRequestToken=str(event["execution"]),
    )
    return {"promotion": str(answer["pipelineExecutionId"])}
