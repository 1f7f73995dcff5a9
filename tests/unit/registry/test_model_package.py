"""Requests to SageMaker's model registry: golden, within the service's limits, and read back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from registry.errors import RegistryError
from registry.record import FileDigest, ModelRecord, Provenance, StageChange
from registry.remote.base import differences, trees_of
from registry.remote.model_package import PackageFiles, create_request
from registry.remote.package_metadata import remote_version, update_request
from registry.remote.version_files import UploadedVersion
from registry.version import SemanticVersion

GOLDEN = Path(__file__).with_name("requests")
SERVICE = botocore.session.get_session().get_service_model("sagemaker")
ARN = "arn:aws:sagemaker:us-east-1:123456789012:model-package/temper-dev-models/3"
METRIC = {"value": 0.75, "low": 0.5, "high": 0.875, "items": 40, "higher_is_better": True}
RECORD = ModelRecord(
    name="support",
    version=SemanticVersion(1, 4, 0),
    created="2026-11-20T10:00:00Z",
    registered_by="ana",
    forms={
        "adapter": {"adapter_model.safetensors": FileDigest("a" * 64, 100)},
        "safetensors": {"model.safetensors": FileDigest("b" * 64, 900)},
        "support-Q4_K_M": {"support-Q4_K_M.gguf": FileDigest("c" * 64, 500)},
    },
    evidence={},
    evaluations=({"suite": "demo", "metrics": {"qa.score": METRIC}},),
    provenance=Provenance(
        run="support/20261120-1",
        base="org/base",
        base_digest="d" * 64,
        tokenizer="e" * 64,
        method="sft",
        adapter="lora",
        data={"train": "t", "validation": None, "prepared": {}},
        job_sha256="f" * 64,
        code={"commit": "c0ffee"},
        seed=7,
        hours=1.5,
        cost_usd=7.5,
    ),
    override="a first release (agreed)",
    overridden=("gate of demo not passed: qa.score at least 0.8 (score 0.75)",),
)


def package_files(record: ModelRecord) -> PackageFiles:
    forms = {
        form: f"s3://models/registry/sha256/{tree}/" for form, tree in trees_of(record).items()
    }
    image = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/temper-dev/gpu@sha256:{'9' * 64}"
    metrics = f"s3://models/registry/sha256/{'8' * 64}/evaluations.json"
    uploaded = UploadedVersion(forms, metrics, "8" * 64, "7" * 64)
    return PackageFiles("temper-dev-models", image, uploaded)


def described(request: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return what the service answers about the package of a request."""
    created = datetime(2026, 11, 20, 10, 1, tzinfo=UTC)
    return {**request, "ModelPackageArn": ARN, "CreationTime": created, **changes}


def check(operation: str, request: dict[str, Any]) -> None:
    """Assert what botocore checks, and the patterns of metadata and names, which it does not."""
    shape = SERVICE.operation_model(operation).input_shape
    assert ParamValidator().validate(request, shape).generate_report() == ""
    properties = request["CustomerMetadataProperties"]
    assert len(properties) <= 50
    for text, limit in [(k, 128) for k in properties] + [(v, 256) for v in properties.values()]:
        assert 1 <= len(text) <= limit
        assert all(c.isalnum() or c.isspace() or c in "_.:/=+-@" for c in text), text


def test_the_request_is_as_committed() -> None:
    request = create_request(RECORD, package_files(RECORD))
    check("CreateModelPackage", request)
    golden = json.loads((GOLDEN / "create-model-package.json").read_text(encoding="utf-8"))
    assert request == golden


def test_a_package_is_read_back_as_the_version() -> None:
    version = remote_version(described(create_request(RECORD, package_files(RECORD))))
    assert version is not None and version.address == ARN
    assert differences(RECORD, version) == []
    assert version.change == StageChange("none", "ana", "2026-11-20T10:00:00Z")


@pytest.mark.parametrize("properties", [{}, {"temper-name": "a"}, {"owner": "another tool"}])
def test_packages_of_other_tools_are_no_versions(properties: dict[str, str]) -> None:
    package = {"ModelPackageArn": ARN, "CustomerMetadataProperties": properties}
    assert remote_version(package) is None


def test_long_and_strange_values_stay_within_the_limits() -> None:
    origin = replace(
        RECORD.provenance, base="/data/mødels (v2)\n" + "x" * 300, run="näme/ü", data={"x" * 999: 1}
    )
    forms = {f"form_{n}-." * 10: {"f": FileDigest("a" * 64, 1)} for n in range(16)}
    metrics = {f"task{n}.{'m' * 300}": METRIC for n in range(2000)}
    evaluations = tuple({"suite": "s" * 99, "metrics": metrics} for _ in range(20))
    record = replace(
        RECORD, provenance=origin, forms=forms, evaluations=evaluations, override="é " * 500
    )
    request = create_request(record, package_files(record))
    check("CreateModelPackage", request)
    assert len(request["ModelCard"]["ModelCardContent"]) <= 100_000
    names = [one["Name"] for one in request["AdditionalInferenceSpecifications"]]
    assert len(set(names)) == 15


def test_more_forms_than_a_package_holds_are_refused() -> None:
    forms = {f"gguf{n}": {"f": FileDigest("a" * 64, 1)} for n in range(17)}
    record = replace(RECORD, forms=forms)
    with pytest.raises(RegistryError, match="17 forms, and a model package holds 16"):
        create_request(record, package_files(record))


def test_a_form_with_a_name_that_metadata_cannot_hold_is_refused() -> None:
    record = replace(RECORD, forms={"my model (v2)": {"f": FileDigest("a" * 64, 1)}})
    with pytest.raises(RegistryError, match=r"my model \(v2\) cannot name a form"):
        create_request(record, package_files(record))


@pytest.mark.parametrize(
    ("stage", "approval"),
    [("production", "Approved"), ("archived", "Rejected"), ("staging", "PendingManualApproval")],
)
def test_a_stage_is_an_approval_with_its_approver(stage: str, approval: str) -> None:
    change = StageChange(stage, "ben", "2026-11-21T09:00:00Z", "measured\nby hand")
    package = described(create_request(RECORD, package_files(RECORD)))
    request = update_request(package, change)
    check("UpdateModelPackage", request)
    if approval == "PendingManualApproval":
        assert "ModelApprovalStatus" not in request  # it is so already
    else:
        assert request["ModelApprovalStatus"] == approval
        assert request["ApprovalDescription"].startswith(f"{stage} by ben at 2026-11-21T09:00:00Z")
    version = remote_version({**package, **request})
    assert version is not None
    assert (version.stage, version.change.approver) == (stage, "ben")


def test_an_approval_by_other_means_is_a_change_by_its_author() -> None:
    package = described(
        create_request(RECORD, package_files(RECORD)),
        ModelApprovalStatus="Approved",
        ApprovalDescription="looks good",
        LastModifiedTime=datetime(2026, 11, 22, 8, 30, 5, 999, tzinfo=UTC),
        LastModifiedBy={
            "IamIdentity": {"Arn": "arn:aws:sts::123456789012:assumed-role/ModelApprover/ben"}
        },
    )
    version = remote_version(package)
    assert version is not None
    assert version.change == StageChange(
        "production", "assumed-role/ModelApprover/ben", "2026-11-22T08:30:05Z", "looks good"
    )


def test_an_outdated_reason_is_removed() -> None:
    package = described(create_request(RECORD, package_files(RECORD)))
    first = update_request(package, StageChange("production", "a", "2026-11-21T09:00:00Z", "good"))
    second = update_request(
        {**package, **first}, StageChange("archived", "b", "2026-11-22T09:00:00Z")
    )
    assert second["CustomerMetadataPropertiesToRemove"] == ["temper-stage-reason"]
    assert "temper-stage-reason" not in second["CustomerMetadataProperties"]
