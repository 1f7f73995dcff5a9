"""Tests that an image is promoted only after a good scan, and only if it is the newest."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.codebuild import codebuild_backends
from moto.ecr import ecr_backends
from moto.ssm import ssm_backends

from stacks.handlers.promote_image import PromotionGate, promote
from tests.infra.handlers.emulated_images import (
    PROJECT,
    REPOSITORY,
    create_build_project,
    put_image,
)
from tests.infra.handlers.image_events import (
    ACCOUNT,
    REGION,
    approval,
    basic_scan,
    enhanced_scan,
    finding,
)

PARAMETER = "/temper-dev/images/gpu/uri"
APPROVED = "/temper-dev/images/gpu/approved"
APPROVER = f"arn:aws:sts::{ACCOUNT}:assumed-role/approvers/ada@example.com"
SCANS = pytest.mark.parametrize("scan", [basic_scan, enhanced_scan])


class Registry:
    """Emulated account with a gate, its images and what it reported."""

    def __init__(self, clients: dict[str, Any]) -> None:
        self.ssm, self.ecr, self.codebuild = (clients[n] for n in ("ssm", "ecr", "codebuild"))
        self.reported: list[dict[str, Any]] = []
        clients["events"].meta.events.register(
            "provide-client-params.events.PutEvents",
            lambda params, **_: self.reported.extend(params["Entries"]),
            unique_id="reported",
        )
        self.ecr.create_repository(repositoryName=REPOSITORY)
        self._clients = clients

    def gate(self, refuse_from: str = "CRITICAL", approver_role: str = "") -> PromotionGate:
        return PromotionGate(
            prefix="temper-dev",
            refuse_from=refuse_from,
            project=PROJECT,
            approver_role=approver_role,
            source="temper.temper-dev",
            **self._clients,
        )

    def push(self, tag: str, minute: int = 0) -> str:
        """Push an image at a minute, and return its digest."""
        digest = put_image(self.ecr, tag)
        for image in ecr_backends[ACCOUNT][REGION].repositories[REPOSITORY].images:
            if image.get_image_digest() == digest:
                image.image_pushed_at = 1_700_000_000 + 60 * minute
        return digest

    def build(self, initiator: str, **variables: str) -> None:
        """Record a build that a person started; moto records neither people nor variables."""
        backend = codebuild_backends[ACCOUNT][REGION]
        if PROJECT not in backend.codebuild_projects:
            create_build_project(self.codebuild, "bucket")
        self.codebuild.start_build(projectName=PROJECT)
        build = backend.build_metadata_history[PROJECT][-1]
        build["initiator"] = initiator
        build["environment"]["environmentVariables"] = [
            {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in variables.items()
        ]

    def approve(self, digest: str, by: str = APPROVER) -> dict[str, Any]:
        """Write an approval as an identity, and return the event of it."""
        self.ssm.put_parameter(Name=APPROVED, Value=digest, Type="String", Overwrite=True)
        versions = ssm_backends[ACCOUNT][REGION]._parameters[APPROVED]
        versions[-1].approver = by
        return approval()

    @property
    def promoted(self) -> str | None:
        try:
            return str(self.ssm.get_parameter(Name=PARAMETER)["Parameter"]["Value"])
        except self.ssm.exceptions.ParameterNotFound:
            return None

    @property
    def faults(self) -> list[dict[str, Any]]:
        return [
            json.loads(entry["Detail"])
            for entry in self.reported
            if entry["DetailType"] == "Temper Fault"
        ]


@pytest.fixture(scope="module")
def clients() -> dict[str, Any]:
    """Clients of the emulated account; creating them takes most of a test's time."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    names = ("ssm", "ecr", "codebuild", "events")
    return {name: boto3.client(name, region_name=REGION, **keys) for name in names}


@pytest.fixture
def registry(clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    from moto.ssm.models import Parameter

    original = Parameter.describe_response_object

    def with_author(self: Any, *arguments: Any, **named: Any) -> dict[str, Any]:
        answer = original(self, *arguments, **named)
        return {**answer, "LastModifiedUser": getattr(self, "approver", "N/A")}

    monkeypatch.setattr(Parameter, "describe_response_object", with_author)
    with mock_aws():
        yield Registry(clients)
    clients["events"].meta.events.unregister(
        "provide-client-params.events.PutEvents", unique_id="reported"
    )


def _uri(digest: str) -> str:
    return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/temper-dev/gpu@{digest}"


@SCANS
@pytest.mark.parametrize("counts", [{}, {"HIGH": 3, "MEDIUM": 10}])
def test_a_good_scan_promotes_by_digest(
    registry: Registry, scan: Any, counts: dict[str, int]
) -> None:
    digest = registry.push("1-a")
    answer = promote(scan(digest, **counts), registry.gate())
    assert answer == {"promoted": True, "image": _uri(digest)}
    assert registry.promoted == _uri(digest)
    assert registry.faults == []


@SCANS
def test_severe_findings_are_refused_and_reported(registry: Registry, scan: Any) -> None:
    digest = registry.push("1-a")
    assert promote(scan(digest, CRITICAL=1), registry.gate())["promoted"] is False
    assert promote(scan(digest, HIGH=1), registry.gate("HIGH"))["promoted"] is False
    assert registry.promoted is None
    assert [fault["fault"] for fault in registry.faults] == ["image-scan-findings"] * 2
    assert {fault["image"] for fault in registry.faults} == {_uri(digest)}
    assert "'CRITICAL': 1" in registry.faults[0]["reason"]


# The states of the ECR API, from its own description.
@pytest.mark.parametrize(
    "status",
    [
        s
        for s in boto3.client("ecr", region_name=REGION)
        .meta.service_model.shape_for("ScanStatus")
        .enum
        if s not in ("COMPLETE", "ACTIVE")
    ],
)
def test_an_image_without_a_finished_scan_is_never_promoted(
    registry: Registry, status: str
) -> None:
    answer = promote(basic_scan(registry.push("1-a"), status), registry.gate())
    assert answer["promoted"] is False and status in answer["why"]
    assert registry.promoted is None
    # A scan in progress is no fault; every other state is.
    assert bool(registry.faults) is (status not in ("IN_PROGRESS", "PENDING"))


@SCANS
def test_a_rescan_of_an_older_image_changes_nothing(registry: Registry, scan: Any) -> None:
    old, new = registry.push("1-a", minute=0), registry.push("2-b", minute=1)
    for digest in (old, new, old):
        promote(scan(digest), registry.gate())
    assert registry.promoted == _uri(new)
    assert registry.faults == []
    answer = promote(scan(old), registry.gate())
    assert answer["why"] == f"older than the image in use, {_uri(new)}"


def test_images_scanned_out_of_order_end_with_the_newest(registry: Registry) -> None:
    old, new = registry.push("1-a", minute=0), registry.push("2-b", minute=1)
    promote(basic_scan(new), registry.gate())
    promote(basic_scan(old), registry.gate())
    assert registry.promoted == _uri(new)


def test_an_image_replaces_one_that_was_deleted(registry: Registry) -> None:
    old, new = registry.push("1-a", minute=0), registry.push("2-b", minute=1)
    promote(basic_scan(new), registry.gate())
    registry.ecr.batch_delete_image(repositoryName=REPOSITORY, imageIds=[{"imageDigest": new}])
    promote(basic_scan(old), registry.gate())
    assert registry.promoted == _uri(old)


def test_a_rescan_of_the_image_in_use_writes_nothing(registry: Registry) -> None:
    digest = registry.push("1-a")
    for _ in range(2):
        assert promote(enhanced_scan(digest), registry.gate())["promoted"] is True
    assert registry.ssm.get_parameter(Name=PARAMETER)["Parameter"]["Version"] == 1


@SCANS
def test_findings_in_a_rescan_of_the_image_in_use_are_reported(
    registry: Registry, scan: Any
) -> None:
    digest = registry.push("1-a")
    promote(scan(digest), registry.gate())
    promote(scan(digest, CRITICAL=2), registry.gate())
    assert registry.promoted == _uri(digest)
    [fault] = registry.faults
    assert "in the image in use" in fault["reason"]


@pytest.mark.parametrize(
    ("severity", "status", "in_use", "reported"),
    [
        ("CRITICAL", "ACTIVE", True, True),
        ("CRITICAL", "ACTIVE", False, False),
        ("CRITICAL", "CLOSED", True, False),
        ("CRITICAL", "SUPPRESSED", True, False),
        ("HIGH", "ACTIVE", True, False),
        ("MEDIUM", "ACTIVE", True, False),
    ],
)
def test_a_finding_is_reported_if_jobs_use_the_image(
    registry: Registry, severity: str, status: str, in_use: bool, reported: bool
) -> None:
    digest = registry.push("1-a")
    if in_use:
        promote(enhanced_scan(digest), registry.gate())
    promote(finding(digest, severity, status), registry.gate())
    assert [f["image"] for f in registry.faults] == [_uri(digest)] * reported
    if reported:
        assert "CRITICAL found in the image in use: CVE-2019-17498" in registry.faults[0]["reason"]


def test_an_untagged_image_is_not_promoted(registry: Registry) -> None:
    digest = registry.push("1-a")
    registry.ecr.batch_delete_image(repositoryName=REPOSITORY, imageIds=[{"imageTag": "1-a"}])
    answer = promote(basic_scan(digest), registry.gate())
    assert answer["promoted"] is False and answer["why"] in ("untagged", "deleted")
    assert registry.promoted is None


def test_another_type_of_event_is_an_error(registry: Registry) -> None:
    with pytest.raises(ValueError, match="ECR Image Action"):
        promote({**basic_scan("x"), "detail-type": "ECR Image Action"}, registry.gate())


def test_an_event_that_is_not_accepted_is_an_error(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = registry.gate()
    monkeypatch.setattr(gate.events, "put_events", lambda **_: {"FailedEntryCount": 1})
    with pytest.raises(RuntimeError, match="did not accept"):
        promote(basic_scan(registry.push("1-a"), CRITICAL=1), gate)


def test_throttling_is_left_to_the_retry(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def throttled(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "ThrottlingException"}}, "PutParameter")

    gate = registry.gate()
    digest = registry.push("1-a")
    monkeypatch.setattr(gate.ssm, "put_parameter", throttled)
    with pytest.raises(ClientError, match="Throttling"):
        promote(basic_scan(digest), gate)


# --- approvals


BUILT = {"KIND": "gpu", "VERSION": "1", "COMMIT": "0123456789abcdef"}
TAG = "1-0123456789ab"


def _scanned(registry: Registry, digest: str) -> None:
    registry.ecr.start_image_scan(repositoryName=REPOSITORY, imageId={"imageDigest": digest})


def test_without_an_approval_an_image_waits_and_says_so(registry: Registry) -> None:
    digest = registry.push(TAG)
    gate = registry.gate(approver_role="approvers")
    answer = promote(enhanced_scan(digest), gate)
    assert answer == {"promoted": False, "why": "waiting for approval"}
    assert registry.promoted is None and registry.faults == []
    [entry] = registry.reported
    assert f"temper approve-image gpu {digest}" in entry["Detail"]


@pytest.mark.parametrize("approved_first", [True, False])
def test_an_approved_image_is_promoted(registry: Registry, approved_first: bool) -> None:
    digest = registry.push(TAG)
    gate = registry.gate(approver_role="approvers")
    registry.build("engineers/bob@example.com", **BUILT)
    if approved_first:
        event = registry.approve(digest)
        assert promote(event, gate)["promoted"] is False  # not scanned yet
        promote(basic_scan(digest), gate)
    else:
        promote(basic_scan(digest), gate)
        assert registry.promoted is None
        _scanned(registry, digest)
        promote(registry.approve(digest), gate)
    assert registry.promoted == _uri(digest)
    assert registry.faults == []


@pytest.mark.parametrize(
    ("builder", "approver", "reason"),
    [
        ("engineers/ada@example.com", APPROVER, "built and approved by ada@example.com"),
        ("Ada@Example.com", APPROVER, "built and approved by ada@example.com"),
        (
            "engineers/bob",
            f"arn:aws:sts::{ACCOUNT}:assumed-role/administrators/eve",
            "not by approvers",
        ),
        ("engineers/bob", f"arn:aws:iam::{ACCOUNT}:user/eve", "not by approvers"),
        (None, APPROVER, "no build of temper-dev-images pushed it"),
    ],
)
def test_an_approval_by_the_builder_or_a_stranger_is_refused(
    registry: Registry, builder: str | None, approver: str, reason: str
) -> None:
    digest = registry.push(TAG)
    registry.build("engineers/carol", **{**BUILT, "COMMIT": "another"})
    if builder:
        registry.build(builder, **BUILT)
    _scanned(registry, digest)
    promote(registry.approve(digest, approver), registry.gate(approver_role="approvers"))
    assert registry.promoted is None
    [fault] = registry.faults
    assert reason in fault["reason"]


def test_an_approval_does_not_excuse_findings(registry: Registry) -> None:
    digest = registry.push(TAG)
    registry.build("engineers/bob", **BUILT)
    _scanned(registry, digest)  # moto's scan finds one of severity HIGH
    promote(registry.approve(digest), registry.gate("HIGH", approver_role="approvers"))
    assert registry.promoted is None and "'HIGH'" in registry.faults[0]["reason"]


def test_an_approval_of_an_older_image_takes_it_back_into_use(registry: Registry) -> None:
    old, new = registry.push("1-0000", minute=0), registry.push(TAG, minute=1)
    gate = registry.gate(approver_role="approvers")
    registry.build("engineers/bob", **{**BUILT, "COMMIT": "0000"})
    registry.build("engineers/bob", **BUILT)
    for digest in (new, old):
        _scanned(registry, digest)
        promote(registry.approve(digest), gate)
        assert registry.promoted == _uri(digest)
    promote(basic_scan(new), gate)  # a re-scan of what is no longer approved
    assert registry.promoted == _uri(old)


def test_an_approval_of_an_unknown_image_is_refused(registry: Registry) -> None:
    event = registry.approve("sha256:" + "0" * 64)
    promote(event, registry.gate(approver_role="approvers"))
    assert "not in the repository" in registry.faults[0]["reason"]
