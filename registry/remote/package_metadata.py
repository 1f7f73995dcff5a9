"""Metadata, approval and stage of a model package of SageMaker: written, and read back.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdateModelPackage.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from registry.errors import RegistryError
from registry.record import STAGES, ModelRecord, StageChange
from registry.remote.base import RemoteVersion, trees_of
from registry.version import parse_version

APPROVED, REJECTED, PENDING = "Approved", "Rejected", "PendingManualApproval"
_APPROVAL = {"production": APPROVED, "archived": REJECTED}
_STAGE = {APPROVED: "production", REJECTED: "archived", PENDING: "none"}
_NAME, _VERSION, _STAGE_KEY = "temper-name", "temper-version", "temper-stage"
_BY, _AT, _WHY = "temper-stage-by", "temper-stage-at", "temper-stage-reason"
_TREE, _CHECKSUMS, _WEIGHTS = "temper-tree-", "temper-s3-checksums", "temper-weights-"
# The forms that an adapter can be added to. All would exceed the 50 properties of a package.
_WITH_WEIGHTS = ("safetensors", "safetensors-merged")


def metadata(record: ModelRecord, checksums: str, evidence: str | None) -> dict[str, str]:
    """Return the metadata of a package: version, digests and origin.

    Args:
        record: The version.
        checksums: Digest of the checksums that S3 has of the version's files.
        evidence: Address of the job, manifest and results; None without any.
    """
    origin = record.provenance
    data = json.dumps(origin.data, sort_keys=True)
    values = {
        _NAME: record.name,
        _VERSION: str(record.version),
        "temper-run": origin.run,
        "temper-base": origin.base,
        "temper-base-digest": origin.base_digest,
        "temper-data-sha256": hashlib.sha256(data.encode()).hexdigest(),
        "temper-job-sha256": origin.job_sha256,
        "temper-tokenizer": origin.tokenizer,
        "temper-method": origin.method,
        "temper-adapter": origin.adapter,
        "temper-registered-by": record.registered_by,
        "temper-registered-at": record.created,
        "temper-override": record.override,
        "temper-evidence": evidence,
        _CHECKSUMS: checksums,
        **{f"{_TREE}{form}": digest for form, digest in trees_of(record).items()},
        **{f"{_WEIGHTS}{form}": origin.weights.get(form) for form in _WITH_WEIGHTS},
        **stage_metadata(StageChange("none", record.registered_by, record.created)),
    }
    return {_text(key)[:128]: _text(value)[:256] for key, value in values.items() if value}


def stage_metadata(change: StageChange) -> dict[str, str]:
    """Return the metadata of a change of the stage."""
    values = {
        _STAGE_KEY: change.stage,
        _BY: change.approver,
        _AT: change.time,
        _WHY: change.reason,
    }
    return {key: _text(value)[:256] for key, value in values.items() if value}


def update_request(package: Mapping[str, Any], change: StageChange) -> dict[str, Any]:
    """Return the request UpdateModelPackage for a change of the stage.

    Args:
        package: The package, as the service describes it.
        change: The change.
    """
    approval, properties = (
        _APPROVAL.get(change.stage, PENDING),
        package["CustomerMetadataProperties"],
    )
    request = {
        "ModelPackageArn": package["ModelPackageArn"],
        "ModelLifeCycle": life_cycle(change.stage),
        "CustomerMetadataProperties": {**properties, **stage_metadata(change)},
    }
    if _WHY in properties and not change.reason:
        del request["CustomerMetadataProperties"][_WHY]
        request["CustomerMetadataPropertiesToRemove"] = [_WHY]
    # Without the member, the approval stays. Roles that may not approve may record who did.
    if package.get("ModelApprovalStatus") != approval:
        why = f": {change.reason}" if change.reason else ""
        request["ModelApprovalStatus"] = approval
        request["ApprovalDescription"] = (
            f"{change.stage} by {change.approver} at {change.time}{why}"
        )[:1024].replace("\n", " ")
    return request


def remote_version(package: Mapping[str, Any]) -> RemoteVersion | None:
    """Return the version that a package holds, or None if it is not one of this registry's.

    Args:
        package: The package, as the service describes it.
    """
    properties = package.get("CustomerMetadataProperties") or {}
    try:
        name, version = properties[_NAME], parse_version(properties[_VERSION])
    except (KeyError, RegistryError):
        return None
    return RemoteVersion(
        name=name,
        version=version,
        trees={
            key.removeprefix(_TREE): digest
            for key, digest in properties.items()
            if key.startswith(_TREE)
        },
        address=package["ModelPackageArn"],
        change=_last_change(package),
        status=str(package.get("ModelApprovalStatus")),
    )


def checksums_of(package: Mapping[str, Any]) -> str | None:
    """Return the digest of the checksums that S3 had of the files when they were pushed."""
    properties: Mapping[str, str] = package.get("CustomerMetadataProperties") or {}
    return properties.get(_CHECKSUMS)


def weights_of(properties: Mapping[str, str]) -> dict[str, str]:
    """Return the digest of the weights of each form that has one, from a package's metadata."""
    return {
        key.removeprefix(_WEIGHTS): digest
        for key, digest in properties.items()
        if key.startswith(_WEIGHTS)
    }


def recorded_change(package: Mapping[str, Any]) -> StageChange:
    """Return the last change of the stage that was recorded in a package's metadata."""
    properties: Mapping[str, str] = package.get("CustomerMetadataProperties") or {}
    return StageChange(
        properties.get(_STAGE_KEY, "none"),
        properties.get(_BY, "unknown"),
        properties.get(_AT, ""),
        properties.get(_WHY),
    )


def _last_change(package: Mapping[str, Any]) -> StageChange:
    """Return the recorded change if the approval agrees with it, else that of the approval."""
    recorded, approval = recorded_change(package), package.get("ModelApprovalStatus")
    if recorded.stage in STAGES and approval in (None, _APPROVAL.get(recorded.stage, PENDING)):
        return recorded
    changed = package.get("LastModifiedTime") or package["CreationTime"]
    return StageChange(
        _STAGE.get(str(approval), "none"),
        _person(package.get("LastModifiedBy") or {}),
        _time(changed),
        package.get("ApprovalDescription") or None,
    )


def _person(context: Mapping[str, Any]) -> str:
    """Return who made a change: the profile of SageMaker Studio, or the end of the IAM ARN."""
    arn = (context.get("IamIdentity") or {}).get("Arn", "")
    return str(context.get("UserProfileName") or arn.rpartition(":")[2] or "unknown, in SageMaker")


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%FT%TZ")


def life_cycle(stage: str) -> dict[str, str]:
    """Return the `ModelLifeCycle` of a stage."""
    return {"Stage": stage, "StageStatus": _APPROVAL.get(stage, "PendingApproval")}


def _text(value: str) -> str:
    """Return a value without the characters that metadata may not contain."""
    return "".join(c if c.isalnum() or c.isspace() or c in "_.:/=+-@" else "-" for c in value)
