"""SageMaker's model registry: packages, approval and files, against an emulated account."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from launch.aws.model_registry import find_version
from launch.errors import NotConfirmed
from registry.command import RegisterOptions, promote_model, register_model
from registry.errors import RegistryError
from registry.record import ModelRecord, StageChange
from registry.remote.base import differences
from registry.remote.command import list_both, push_model
from registry.remote.sagemaker import SageMakerRegistry
from registry.store import LocalRegistry
from tests.unit.registry.runs import evaluate, make_run
from tests.unit.registry.sagemaker_account import BUCKET, emulated_registry


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[SageMakerRegistry]:
    monkeypatch.setenv("YES", "1")
    with emulated_registry() as registry:
        yield registry


def registered(root: Path, name: str = "a", **changes: Any) -> ModelRecord:
    """Register a run with an adapter-free model and a GGUF file."""
    run = make_run(root, name, **changes)
    evaluate(run)
    (run / "export").mkdir()
    (run / "export" / "support-Q8_0.gguf").write_bytes(b"GGUF" + name.encode())
    return register_model(RegisterOptions(run, root / "registry"))


def packages(remote: SageMakerRegistry) -> list[dict[str, Any]]:
    client = remote._client
    listed = client.list_model_packages(ModelPackageGroupName="temper-dev-models")
    arns = [one["ModelPackageArn"] for one in listed["ModelPackageSummaryList"]]
    return [client.describe_model_package(ModelPackageName=arn) for arn in arns]


def approve(remote: SageMakerRegistry, status: str = "Approved") -> None:
    """Change the approval as a person does in the console, of the newest package."""
    arn = packages(remote)[-1]["ModelPackageArn"]
    remote._client.update_model_package(ModelPackageArn=arn, ModelApprovalStatus=status)


def test_a_pushed_version_is_a_package_that_waits_for_approval(
    tmp_path: Path, remote: SageMakerRegistry
) -> None:
    record, store = registered(tmp_path), LocalRegistry(tmp_path / "registry")
    version = remote.push(record, store)
    assert (version.id, version.status) == ("support@1.0.0", "PendingManualApproval")
    assert differences(record, version) == []
    (package,) = packages(remote)
    assert package["CustomerMetadataProperties"]["temper-version"] == "1.0.0"
    assert package["MetadataProperties"] == {"CommitId": "c0ffee", "GeneratedBy": "support/a"}
    (extra,) = package["AdditionalInferenceSpecifications"]
    for part, path in (
        (package["InferenceSpecification"], "model.safetensors"),
        (extra, "support-Q8_0.gguf"),
    ):
        (container,) = part["Containers"]
        folder = container["ModelDataSource"]["S3DataSource"]["S3Uri"]
        key = folder.removeprefix(f"s3://{BUCKET}/") + path
        stored = remote._files.s3.get_object(Bucket=BUCKET, Key=key)
        local = next(f[path] for f in record.forms.values() if path in f)
        assert len(stored["Body"].read()) == local.size_bytes
        assert stored["ServerSideEncryption"] == "aws:kms"
    evidence = package["CustomerMetadataProperties"]["temper-evidence"]
    for path, file in record.evidence.items():
        key = evidence.removeprefix(f"s3://{BUCKET}/") + path
        body = remote._files.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert hashlib.sha256(body).hexdigest() == file.sha256
    statistics = package["ModelMetrics"]["ModelQuality"]["Statistics"]
    key = statistics["S3Uri"].removeprefix(f"s3://{BUCKET}/")
    document = json.loads(remote._files.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    assert document["evaluations"][0]["metrics"]["qa.score"]["value"] == 0.7


def test_a_job_starts_from_a_pushed_version_by_its_name(
    tmp_path: Path, remote: SageMakerRegistry
) -> None:
    version = remote.push(registered(tmp_path), LocalRegistry(tmp_path / "registry"))
    source = "registry:temper-dev-models/support@1.0.0"
    assert find_version(remote._client, source).address == (
        f"s3://{BUCKET}/registry/sha256/{version.trees['safetensors']}/"
    )


def test_of_two_packages_of_a_version_the_first_one_counts(
    tmp_path: Path, remote: SageMakerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push that did not see the package of another one, and whose token the service forgot."""
    record, store = registered(tmp_path), LocalRegistry(tmp_path / "registry")
    first = remote.push(record, store)
    other = registered(tmp_path / "theirs", weights="theirs")
    unseen = iter((None,))
    find = remote._find
    monkeypatch.setattr(remote, "_find", lambda r: next(unseen, find(r)))
    create = remote._client.create_model_package
    monkeypatch.setattr(
        remote._client,
        "create_model_package",
        lambda **request: create(**request | {"ClientToken": "another"}),
    )
    with pytest.raises(RegistryError, match=r"exists .* with other files"):
        remote.push(other, LocalRegistry(tmp_path / "theirs" / "registry"))
    assert len(packages(remote)) == 2 and remote.versions() == [first]


def test_pushing_twice_sends_nothing_again(tmp_path: Path, remote: SageMakerRegistry) -> None:
    record, store = registered(tmp_path), LocalRegistry(tmp_path / "registry")
    first = remote.push(record, store)
    sent: list[str] = []

    def note(model: Any, **_: Any) -> None:
        sent.append(model.name)

    for client in (remote._client, remote._files.s3):
        client.meta.events.register("before-call.*.*", note)
    assert remote.push(record, store) == first
    for client in (remote._client, remote._files.s3):
        client.meta.events.unregister("before-call.*.*", note)
    lists = {"ListModelPackages", "ListArtifacts", "ListActions", "ListAssociations"}
    assert set(sent) == {*lists, "DescribeModelPackage", "HeadObject"}


def test_two_pushes_at_once_make_one_package(tmp_path: Path, remote: SageMakerRegistry) -> None:
    record, store = registered(tmp_path), LocalRegistry(tmp_path / "registry")
    with ThreadPoolExecutor(2) as pool:
        versions = list(pool.map(lambda _: remote.push(record, store), range(2)))
    assert versions[0] == versions[1] and len(packages(remote)) == 1


def test_a_version_with_other_files_is_refused(tmp_path: Path, remote: SageMakerRegistry) -> None:
    for place in ("mine", "theirs"):
        record = registered(tmp_path / place, weights=place)
        store = LocalRegistry(tmp_path / place / "registry")
        if place == "mine":
            remote.push(record, store)
            continue
        with pytest.raises(RegistryError, match=r"support@1\.0\.0 exists .* with other files"):
            remote.push(record, store)
        assert list_both(store.root, None, remote) == 1
    assert len(packages(remote)) == 1


def test_approval_in_aws_reaches_the_local_registry_with_its_approver(
    tmp_path: Path, remote: SageMakerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalRegistry(tmp_path / "registry")
    for name in ("a", "b"):
        push_model(store.root, registered(tmp_path, name).id, remote)
    monkeypatch.setattr("registry.command._now", lambda: "2026-01-01T00:00:00Z")
    promote_model(store.root, "support@1.0.0", "production", "first release", remote)
    assert [one["ModelApprovalStatus"] for one in packages(remote)] == [
        "Approved",
        "PendingManualApproval",
    ]
    assert "first release" in packages(remote)[0]["ApprovalDescription"]
    approve(remote)  # now, which is later
    assert list_both(store.root, None, remote) == 0
    old, new = store.records("support")
    assert (old.stage, new.stage) == ("archived", "production")
    assert new.approver == "fake-user-profile-name"  # moto's, of LastModifiedBy
    assert [one["ModelApprovalStatus"] for one in packages(remote)] == ["Rejected", "Approved"]
    first, second = remote.versions("support")
    assert (first.change, second.change) == (old.transitions[-1], new.transitions[-1])
    assert list_both(store.root, None, remote) == 0
    assert [len(record.transitions) for record in store.records()] == [2, 1]


def test_nothing_is_approved_in_aws_unasked(
    tmp_path: Path, remote: SageMakerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, store = registered(tmp_path), LocalRegistry(tmp_path / "registry")
    push_model(store.root, record.id, remote)
    monkeypatch.setattr("registry.command._now", lambda: "2100-01-01T00:00:00Z")
    promote_model(store.root, record.id, "production")
    monkeypatch.delenv("YES")
    with pytest.raises(NotConfirmed, match=r"support@1\.0\.0 to production"):
        list_both(store.root, None, remote)
    assert packages(remote)[0]["ModelApprovalStatus"] == "PendingManualApproval"
    monkeypatch.setenv("YES", "1")
    list_both(store.root, None, remote)
    assert packages(remote)[0]["ModelApprovalStatus"] == "Approved"


def test_who_may_not_approve_is_told_who_may(
    tmp_path: Path, remote: SageMakerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, store = registered(tmp_path), LocalRegistry(tmp_path / "registry")
    remote.push(record, store)

    def deny(**_: Any) -> None:
        error = {"Error": {"Code": "AccessDeniedException", "Message": "explicit deny"}}
        raise ClientError(error, "UpdateModelPackage")

    monkeypatch.setattr(remote._client, "update_model_package", deny)
    with pytest.raises(RegistryError, match="/temper-dev/roles/model-approver approves"):
        promote_model(store.root, record.id, "production", None, remote)
    assert store.find(record.id).stage == "none"


def test_a_file_that_was_changed_in_s3_is_named_and_not_approved(
    tmp_path: Path, remote: SageMakerRegistry
) -> None:
    record, store = registered(tmp_path), LocalRegistry(tmp_path / "registry")
    version = remote.push(record, store)
    key = f"registry/sha256/{version.trees['gguf']}/support-Q8_0.gguf"
    remote._files.s3.put_object(Bucket=BUCKET, Key=key, Body=b"GGUFb", ChecksumAlgorithm="SHA256")
    with pytest.raises(RegistryError, match="are not those that were pushed"):
        promote_model(store.root, record.id, "production", None, remote)
    assert store.find(record.id).stage == "none"
    with pytest.raises(RegistryError, match=rf"{key} was changed"):
        remote.push(record, store)


def test_a_large_file_is_sent_in_parts_and_compared_by_their_checksums(
    tmp_path: Path, remote: SageMakerRegistry
) -> None:
    record, store = (
        registered(tmp_path, weights="w" * (11 << 20)),
        LocalRegistry(tmp_path / "registry"),
    )
    remote._files = dataclasses.replace(remote._files, part_bytes=5 << 20)
    version = remote.push(record, store)
    key = f"registry/sha256/{version.trees['safetensors']}/model.safetensors"
    assert remote._files.s3.head_object(Bucket=BUCKET, Key=key)["ETag"].endswith('-3"')
    assert remote.push(record, store) == version
    remote.set_stage(record, StageChange("production", "ana", "2030-01-01T00:00:00Z"))
