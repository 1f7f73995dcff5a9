"""Name and version of the model that an event about a model package concerns.

The event names the package by its number. Its metadata, which the documented event lacks, hold the
semantic version: docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
"""

from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from .event_fields import flattened

PACKAGE_EVENT = "SageMaker Model Package State Change"
# Keys that `temper push-model` writes.
NAME, VERSION = "temper-name", "temper-version"


def with_model_version(event: Mapping[str, Any], client: Callable[[str], Any]) -> Mapping[str, Any]:
    """Return the event with the model's version and its approval; another event as it is.

    A package that cannot be described is named by its ARN: the message must not be lost.

    Args:
        event: EventBridge event.
        client: Factory of clients by service name.
    """
    if event.get("detail-type") != PACKAGE_EVENT:
        return event
    detail = flattened(event.get("detail", {}))
    state, approval = detail.get("ModelPackageStatus"), detail.get("ModelApprovalStatus")
    more = {"ModelState": approval if state == "Completed" and approval else state}
    properties = detail.get("CustomerMetadataProperties") or _properties(detail, client)
    if NAME in properties and VERSION in properties:
        more["ModelVersion"] = f"{properties[NAME]}@{properties[VERSION]}"
    return {**event, "detail": {**event["detail"], **more}}


def _properties(detail: Mapping[str, Any], client: Callable[[str], Any]) -> Mapping[str, str]:
    arn = detail.get("ModelPackageArn")
    if not arn:
        return {}
    sagemaker = client("sagemaker")
    try:
        package = sagemaker.describe_model_package(ModelPackageName=arn)
    except ClientError:
        return {}
    properties: Mapping[str, str] = package.get("CustomerMetadataProperties") or {}
    return properties
