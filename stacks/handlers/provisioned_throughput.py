"""Custom resource handler for Bedrock provisioned throughput, which has no CloudFormation type.

Units and commitment cannot be changed in place: an update of either creates a new throughput with a
new physical id, and CloudFormation then deletes the old one. A commitment is refused unless it is
acknowledged. Delete does not fail the stack on throughput with a commitment: it cannot be deleted
before its end, so it is left in place and logged.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.exceptions import ClientError

log = logging.getLogger(__name__)
log.setLevel(logging.INFO)
NOT_FOUND = "ResourceNotFoundException"
BUSY = ("ConflictException", "ThrottlingException")
Event = Mapping[str, Any]


def on_event(event: Event, context: object) -> dict[str, Any]:
    """Start the operation that CloudFormation requests."""
    return start(event, bedrock=boto3.client("bedrock"))


def is_complete(event: Event, context: object) -> dict[str, Any]:
    """Report whether the operation has finished; CDK polls until it has."""
    return check(event, bedrock=boto3.client("bedrock"))


def start(event: Event, *, bedrock: Any) -> dict[str, Any]:
    """Create, update or delete, and return the physical id."""
    if event["RequestType"] == "Create":
        return _create(event, bedrock)
    if event["RequestType"] == "Update":
        return _update(event, bedrock)
    _delete(str(event["PhysicalResourceId"]), bedrock)
    return {"PhysicalResourceId": event["PhysicalResourceId"]}


def check(event: Event, *, bedrock: Any) -> dict[str, Any]:
    """Report whether the throughput is in service or, on Delete, removed.

    Args:
        event: Request of CloudFormation, with the physical id.
        bedrock: Bedrock client.

    Raises:
        RuntimeError: If the throughput has failed or has disappeared, which fails the deployment.
    """
    arn = str(event["PhysicalResourceId"])
    throughput = _get(arn, bedrock)
    if event["RequestType"] == "Delete":
        if throughput is None or _is_committed(throughput):
            return {"IsComplete": True}
        # Bedrock refuses to delete a throughput that is still being created, so retry.
        _delete(arn, bedrock)
        return {"IsComplete": _get(arn, bedrock) is None}
    if throughput is None:
        raise RuntimeError(f"{arn} is gone while it was awaited")
    if throughput["status"] == "Failed":
        raise RuntimeError(f"{arn} failed: {throughput.get('failureMessage', 'no reason given')}")
    return {
        "IsComplete": throughput["status"] == "InService",
        **({"Data": {"Arn": arn}} if throughput["status"] == "InService" else {}),
    }


def _create(event: Event, bedrock: Any) -> dict[str, Any]:
    properties = event["ResourceProperties"]
    commitment = properties.get("Commitment") or None
    if commitment and str(properties.get("AcknowledgeCommitment")).lower() != "true":
        raise ValueError(
            f"{properties['Name']} commits to {commitment} without an acknowledgement; "
            "set acknowledge_commitment: true, or remove commitment"
        )
    # CloudFormation may repeat a request; the same token returns the same throughput.
    token = hashlib.sha256(str(event["RequestId"]).encode()).hexdigest()
    answer = bedrock.create_provisioned_model_throughput(
        clientRequestToken=token,
        provisionedModelName=f"{properties['Name'][:54]}-{token[:8]}",
        modelId=properties["Model"],
        modelUnits=int(properties["Units"]),
        tags=[{"key": key, "value": value} for key, value in sorted(properties["Tags"].items())],
        **({"commitmentDuration": commitment} if commitment else {}),
    )
    return {"PhysicalResourceId": answer["provisionedModelArn"]}


def _update(event: Event, bedrock: Any) -> dict[str, Any]:
    previous, properties = event["OldResourceProperties"], event["ResourceProperties"]
    arn = event["PhysicalResourceId"]
    if any(previous.get(key) != properties.get(key) for key in ("Units", "Commitment", "Name")):
        return _create(event, bedrock)
    if previous["Model"] != properties["Model"]:
        if _get(str(arn), bedrock) is None:
            return _create(event, bedrock)  # the schedule has undeployed it
        bedrock.update_provisioned_model_throughput(
            provisionedModelId=arn, desiredModelId=properties["Model"]
        )
    elif previous.get("Generation") != properties.get("Generation"):
        return _create(event, bedrock)
    return {"PhysicalResourceId": arn}


def _delete(arn: str, bedrock: Any) -> None:
    if not arn.startswith("arn:"):
        return  # creation failed before Bedrock returned an ARN
    throughput = _get(arn, bedrock)
    if throughput is None:
        return
    if _is_committed(throughput):
        log.warning(
            json.dumps(
                {
                    "left": arn,
                    "why": "committed until its end; it is billed until then",
                    "ends": str(throughput.get("commitmentExpirationTime")),
                }
            )
        )
        return
    try:
        bedrock.delete_provisioned_model_throughput(provisionedModelId=arn)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == NOT_FOUND:
            return
        if code not in BUSY:
            raise
        log.info(json.dumps({"waiting": arn, "why": code}))


def _get(arn: str, bedrock: Any) -> dict[str, Any] | None:
    if not arn.startswith("arn:"):
        return None
    try:
        throughput: dict[str, Any] = bedrock.get_provisioned_model_throughput(
            provisionedModelId=arn
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == NOT_FOUND:
            return None
        raise
    return throughput


def _is_committed(throughput: Mapping[str, Any]) -> bool:
    return bool(throughput.get("commitmentDuration")) and throughput["status"] != "Failed"
