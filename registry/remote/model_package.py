"""Request that creates a model package of SageMaker for a version.

Members and limits: the service's description in botocore.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModelPackage.html
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from registry.errors import RegistryError
from registry.record import ModelRecord
from registry.remote.model_card import model_card
from registry.remote.package_metadata import PENDING, life_cycle, metadata
from registry.remote.version_files import UploadedVersion

# Forms that a server loads as they are come first.
_ORDER = ("safetensors-merged", "safetensors", "adapter", "gguf")
_FORM = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_MAX_FORMS = 16  # one specification and 15 additional ones


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
    forms = files.uploaded.forms
    if len(forms) > _MAX_FORMS:
        raise RegistryError(
            f"{record.id} has {len(forms)} forms, and a model package holds {_MAX_FORMS}. "
            f"Register it with fewer files in export/"
        )
    if unnamed := [form for form in forms if not _FORM.fullmatch(form)]:
        raise RegistryError(
            f"{record.id}: {', '.join(unnamed)} cannot name a form in SageMaker: up to 100 "
            f"letters, digits, '.', '_' and '-'. Rename the file in export/, and register again"
        )
    main, *others = sorted(forms, key=_form_order)
    request: dict[str, Any] = {
        "ModelPackageGroupName": files.group,
        "ModelPackageDescription": description(record),
        "ModelApprovalStatus": PENDING,
        "ModelLifeCycle": life_cycle("none"),
        "InferenceSpecification": _specification(files, main),
        "CustomerMetadataProperties": metadata(
            record, files.uploaded.checksums, files.uploaded.evidence
        ),
        "MetadataProperties": _metadata_properties(record),
        "ModelCard": {
            "ModelCardContent": model_card(record, [forms[form] for form in (main, *others)]),
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
