"""Model packages of SageMaker: the request that creates one, and the version that one holds.

Members and limits: the service's description in botocore.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModelPackage.html
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from registry.errors import RegistryError
from registry.record import STAGES, ModelRecord, StageChange
from registry.remote.base import RemoteVersion, trees_of
from registry.remote.model_card import model_card
from registry.remote.version_files import UploadedVersion
from registry.version import parse_version

APPROVED, REJECTED, PENDING = "Approved", "Rejected", "PendingManualApproval"
_APPROVAL = {"production": APPROVED, "archived": REJECTED}
_STAGE = {APPROVED: "production", REJECTED: "archived", PENDING: "none"}
# Forms that a server loads as they are come first.
_ORDER = ("safetensors-merged", "safetensors", "adapter", "gguf")
_FORM = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_MAX_FORMS = 16  # one specification and 15 additional ones
_NAME, _VERSION, _STAGE_KEY = "temper-name", "temper-version", "temper-stage"
_BY, _AT, _WHY = "temper-stage-by", "temper-stage-at", "temper-stage-reason"
_TREE, _CHECKSUMS = "temper-tree-", "temper-s3-checksums"


@dataclass(frozen=True)
class PackageFiles:
    """Addresses of what a package refers to.

    Attributes:
        group: Name of the model package group.
        image: Image of the containers, with its digest.
        uploaded: Addresses of the version's files.
    """

    group: str
    image: str
    uploaded: UploadedVersion


def create_request(record: ModelRecord, files: PackageFiles) -> dict[str, Any]:
    """Return the request CreateModelPackage for a version, which is not approved.

    Args:
        record: The version.
        files: Addresses of what it refers to.

    Raises:
        RegistryError: The version has more forms than a package can hold, or one with a name that
            metadata cannot.
    """
    if len(files.uploaded.forms) > _MAX_FORMS:
        raise RegistryError(
            f"{record.id} has {len(files.uploaded.forms)} forms, and a model package holds {_MAX_FORMS}. "
            f"Register it with fewer files in export/"
        )
    if unnamed := [form for form in files.uploaded.forms if not _FORM.fullmatch(form)]:
        raise RegistryError(
            f"{record.id}: {', '.join(unnamed)} cannot name a form in SageMaker: up to 100 "
            f"letters, digits, '.', '_' and '-'. Rename the file in export/, and register again"
        )
    main, *others = sorted(files.uploaded.forms, key=_form_order)
    request: dict[str, Any] = {
        "ModelPackageGroupName": files.group,
        "ModelPackageDescription": description(record),
        "ModelApprovalStatus": PENDING,
        "ModelLifeCycle": _life_cycle("none"),
        "InferenceSpecification": _specification(files, main),
        "CustomerMetadataProperties": metadata(
            record, files.uploaded.checksums, files.uploaded.evidence
        ),
        "MetadataProperties": _metadata_properties(record),
        "ModelCard": {
            "ModelCardContent": model_card(
                record, [files.uploaded.forms[form] for form in (main, *others)]
            ),
            "ModelCardStatus": "PendingReview",
        },
        "ClientToken": hashlib.sha256(f"{files.group}/{record.id}".encode()).hexdigest()[:36],
    }
    if others:
        request["AdditionalInferenceSpecifications"] = [
            {"Name": _entity_name(form, number), **_specification(files, form)}
            for number, form in enumerate(others)
        ]
    if files.uploaded.metrics:
        source = {
            "ContentType": "application/json",
            "ContentDigest": f"sha256:{files.uploaded.metrics_sha256}",
            "S3Uri": files.uploaded.metrics,
        }
        request["ModelMetrics"] = {"ModelQuality": {"Statistics": source}}
    return request


def description(record: ModelRecord) -> str:
    """Return the description of a package, whose first word is the version's name and number."""
    origin = record.provenance
    return f"{record.id} {origin.method} of {origin.base}"[:1024]


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
        "ModelLifeCycle": _life_cycle(change.stage),
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


def _life_cycle(stage: str) -> dict[str, str]:
    return {"Stage": stage, "StageStatus": _APPROVAL.get(stage, "PendingApproval")}


def _specification(files: PackageFiles, form: str) -> dict[str, Any]:
    source = {
        "S3Uri": files.uploaded.forms[form],
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
    return {
        "Containers": [{"Image": files.image, "ModelDataSource": {"S3DataSource": source}}],
        "SupportedContentTypes": ["application/json"],
        "SupportedResponseMIMETypes": ["application/json"],
    }


def _metadata_properties(record: ModelRecord) -> dict[str, str]:
    values = {"GeneratedBy": record.provenance.run}
    if commit := record.provenance.code.get("commit"):
        values["CommitId"] = str(commit)
    return {name: value[:1024] for name, value in values.items()}


def _form_order(form: str) -> tuple[int, str]:
    return (_ORDER.index(form) if form in _ORDER else len(_ORDER), form)


def _entity_name(form: str, number: int) -> str:
    """Return a name of letters, digits and single hyphens; the number keeps it unique."""
    words = re.findall(r"[A-Za-z0-9]+", form)
    return "-".join([*words, str(number)])[-63:].strip("-")


def _text(value: str) -> str:
    """Return a value without the characters that metadata may not contain."""
    return "".join(c if c.isalnum() or c.isspace() or c in "_.:/=+-@" else "-" for c in value)
