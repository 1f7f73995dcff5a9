"""Publication of images, from the source to the parameter that jobs read."""

from __future__ import annotations

import io
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from launch.aws.session import AwsSession
from launch.errors import InvalidOptionError, LaunchError, NotConfirmed
from launch.images.gate import ApprovalNeededError, ImageRefusedError
from launch.images.publish import ImagePublisher
from launch.images.source import ImageSource, read_source
from tests.infra.handlers.image_events import ACCOUNT, approval
from tests.unit.launch.fake_accounts import VALUES
from tests.unit.launch.image_account import (
    APPROVER_ROLE,
    BASIC,
    ENHANCED,
    ENVIRONMENT,
    PROJECT,
    REPOSITORY,
    ImageAccount,
    make_source,
)

SCANNING = pytest.mark.parametrize("scanning", [BASIC, ENHANCED], ids=["basic", "enhanced"])


@pytest.fixture(scope="module")
def session() -> AwsSession:
    """One session for all tests: creating clients takes most of a test's time."""
    return AwsSession(ENVIRONMENT)


@pytest.fixture
def account(session: AwsSession, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageAccount]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("YES", "1")
    mock = mock_aws()
    mock.start(reset=False)
    created = ImageAccount(session)
    yield created
    created.remove()
    mock.stop(remove_data=False)


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True)


@pytest.fixture
def source(tmp_path: Path) -> ImageSource:
    return make_source(tmp_path / "checkout", git)


@SCANNING
def test_from_the_source_to_the_promoted_image(
    account: ImageAccount, source: ImageSource, scanning: Any
) -> None:
    account.scan_states, account.event = list(scanning[0]), scanning[1]
    uri = account.publish(source)
    image = account.publisher().repository.find(source.tag)
    assert image is not None and uri == f"{REPOSITORY}@{image.digest}"
    assert account.parameter("images/gpu/uri") == uri
    text = "\n".join(account.lines)
    for expected in (
        f"image: temper-dev/gpu:{source.tag}",
        "build: PROVISIONING SUCCEEDED in 3 s",
        f"scan: {scanning[0][0]}",
        f"scan: {scanning[0][1]}",
        "findings: 4 medium; https://eu-west-2.console.aws.amazon.com/ecr/",
        f"promoted: jobs of dev use {uri}",
    ):
        assert expected in text


def test_a_build_gets_the_object_that_was_uploaded_for_it(
    account: ImageAccount, source: ImageSource
) -> None:
    account.publish(source)
    [request] = account.started
    assert request["projectName"] == PROJECT
    variables = {v["name"]: v["value"] for v in request["environmentVariablesOverride"]}
    assert variables == {"KIND": "gpu", "VERSION": "1.2.3", "COMMIT": source.commit}
    # Nothing that IAM forbids to replace (`stacks/policies/image_builds.py`).
    assert set(request) == {
        *("projectName", "sourceVersion", "environmentVariablesOverride", "idempotencyToken")
    }
    # Another upload in between is not what this build reads.
    bucket, key = VALUES["buckets/runs"], "source/temper.zip"
    account.client("s3").put_object(Bucket=bucket, Key=key, Body=b"of another person")
    answer = account.client("s3").get_object(
        Bucket=bucket, Key=key, VersionId=request["sourceVersion"]
    )
    archive = zipfile.ZipFile(io.BytesIO(answer["Body"].read()))
    assert "containers/build.sh" in archive.namelist()


def test_the_same_command_builds_nothing_twice(account: ImageAccount, source: ImageSource) -> None:
    assert account.publish(source) == account.publish(source)
    assert len(account.started) == 1


def test_ctrl_c_leaves_the_build_and_the_command_attaches_to_it(
    account: ImageAccount, source: ImageSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    import launch.images.builds as module

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            account.publish(source)
    assert "continues in CodeBuild; run the same command" in account.lines[-1]
    # Edits since then do not matter: the build has its source.
    (source.root / "containers" / "build.sh").write_text("changed")
    account.publish(read_source(source.root, "1.2.3"))
    assert len(account.started) == 1
    assert any("started by engineers/bob@example.com" in line for line in account.lines)


def test_a_failed_build_ends_with_its_log_and_can_be_repeated(
    account: ImageAccount, source: ImageSource
) -> None:
    account.client("logs").put_log_events(
        logGroupName="/temper/temper-dev/image-build",
        logStreamName="one",
        logEvents=[{"timestamp": int(time.time() * 1000), "message": "no space left on device"}],
    )
    account.outcome = "FAILED"
    with pytest.raises(LaunchError, match="ended as FAILED: make image: exit status 2") as caught:
        account.publish(source)
    assert "no space left on device" in str(caught.value)
    account.outcome = "SUCCEEDED"
    account.publish(source)
    assert len(account.started) == 2


def test_severe_findings_end_with_the_code_of_a_gate(
    account: ImageAccount, source: ImageSource
) -> None:
    account.counts = {"CRITICAL": 2, "HIGH": 1}
    with pytest.raises(ImageRefusedError, match="found 2 critical; the environment dev refuses"):
        account.publish(source)
    assert ImageRefusedError.exit_code == 5
    assert account.parameter("images/gpu/uri") is None


@pytest.mark.parametrize("state", ["FAILED", "UNSUPPORTED_IMAGE", "IMAGE_SIZE_EXCEEDED"])
def test_a_scan_without_a_result_is_reported(
    account: ImageAccount, source: ImageSource, state: str
) -> None:
    account.scan_states = ["IN_PROGRESS", state]
    with pytest.raises(LaunchError, match=rf"the scan of the image is {state} \(why\)"):
        account.publish(source)
    assert account.parameter("images/gpu/uri") is None


def test_a_scan_that_does_not_end_is_reported(account: ImageAccount, source: ImageSource) -> None:
    account.scan_states, account.event = ["IN_PROGRESS"], None
    with pytest.raises(LaunchError, match="the scan is IN_PROGRESS after 0 minutes"):
        account.publisher(scan_s=0.05).publish(source)


def test_an_older_image_does_not_replace_a_newer_one(
    account: ImageAccount, source: ImageSource
) -> None:
    account.publish(source)
    newer = account.push("2.0.0-abc")
    account.promote(BASIC[1](newer))
    with pytest.raises(LaunchError, match=r"a newer image is in use: 2\.0\.0-abc"):
        account.publish(source)


# --- before anything is paid for


def test_uncommitted_changes_are_refused(account: ImageAccount, source: ImageSource) -> None:
    (source.root / "containers" / "build.sh").write_text("changed")
    with pytest.raises(LaunchError, match=r"uncommitted changes: containers/build\.sh"):
        account.publish(read_source(source.root))
    assert account.started == []


def test_untracked_files_are_announced_and_not_packed(
    account: ImageAccount, source: ImageSource
) -> None:
    (source.root / "notes.txt").write_text("mine")
    account.publish(read_source(source.root, "1.2.3"))
    assert any("git does not track it: notes.txt" in line for line in account.lines)
    body = account.client("s3").get_object(Bucket=VALUES["buckets/runs"], Key="source/temper.zip")[
        "Body"
    ]
    assert "notes.txt" not in zipfile.ZipFile(io.BytesIO(body.read())).namelist()


def test_the_cost_is_stated_and_a_refusal_starts_nothing(
    account: ImageAccount, source: ImageSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("YES")
    with pytest.raises(NotConfirmed, match=r"at most 120 min of CodeBuild = \$2\.40 \(large"):
        account.publish(source)
    assert account.started == []
    assert "Contents" not in account.client("s3").list_objects_v2(Bucket=VALUES["buckets/runs"])


def test_the_last_build_is_the_estimate(
    account: ImageAccount, source: ImageSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.publish(source)
    monkeypatch.delenv("YES")
    with pytest.raises(NotConfirmed, match=r"the last one took \d+ min = \$\d"):
        account.publish(read_source(source.root, "1.2.4"))


@pytest.mark.parametrize("version", ["-1", "1/2", "a b", '1";curl', "x" * 65])
def test_a_version_that_is_not_a_tag_is_refused(source: ImageSource, version: str) -> None:
    with pytest.raises(InvalidOptionError, match="--version"):
        read_source(source.root, version)


def test_a_folder_without_git_is_explained(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="built from a git checkout"):
        read_source(tmp_path)


def test_an_unknown_kind_is_refused(session: AwsSession) -> None:
    with pytest.raises(
        InvalidOptionError, match="write gpu, neuron, prepare, serve, serve-gpu or serve-neuron"
    ):
        ImagePublisher(session, "tpu")


# --- approvals


@pytest.fixture
def guarded(account: ImageAccount, monkeypatch: pytest.MonkeyPatch) -> ImageAccount:
    """Account whose images need an approval; Parameter Store records who wrote one."""
    from moto.ssm.models import Parameter

    plain = Parameter.describe_response_object

    def with_author(self: Any, *arguments: Any, **named: Any) -> dict[str, Any]:
        author = f"arn:aws:sts::{ACCOUNT}:assumed-role/{APPROVER_ROLE}/ada@example.com"
        return {**plain(self, *arguments, **named), "LastModifiedUser": author}

    monkeypatch.setattr(Parameter, "describe_response_object", with_author)
    account.approver_role = APPROVER_ROLE
    account.set_parameter("images/approval", "required")
    put = account.session.client("ssm").put_parameter

    def put_and_send(**request: Any) -> Any:
        answer = put(**request)
        if request["Name"].endswith("/approved"):
            account.promote(approval())
        return answer

    monkeypatch.setattr(account.session.client("ssm"), "put_parameter", put_and_send)
    return account


@SCANNING
def test_an_image_waits_for_its_approval_and_is_then_promoted(
    guarded: ImageAccount, source: ImageSource, scanning: Any
) -> None:
    guarded.scan_states, guarded.event = list(scanning[0]), scanning[1]
    with pytest.raises(ApprovalNeededError, match="temper approve-image gpu sha256:"):
        guarded.publish(source)
    assert guarded.parameter("images/gpu/uri") is None
    uri = guarded.publisher().approve()
    assert guarded.parameter("images/gpu/uri") == uri
    assert guarded.publish(source) == uri
    assert len(guarded.started) == 1


def test_the_builder_cannot_approve(guarded: ImageAccount, source: ImageSource) -> None:
    # The identity of moto's caller.
    guarded.initiator = guarded.session.caller().rpartition(":")[2]
    with pytest.raises(ApprovalNeededError):
        guarded.publish(source)
    with pytest.raises(LaunchError, match="another person must approve it"):
        guarded.publisher().approve(source.tag)
    assert guarded.parameter("images/gpu/approved") is None


def test_an_image_with_findings_cannot_be_approved(
    guarded: ImageAccount, source: ImageSource
) -> None:
    with pytest.raises(ApprovalNeededError):
        guarded.publish(source)
    guarded.counts = {"CRITICAL": 1}
    with pytest.raises(ImageRefusedError):
        guarded.publisher().approve(source.tag)


def test_an_image_that_was_pushed_by_hand_cannot_be_approved(guarded: ImageAccount) -> None:
    guarded.push("1-by-hand")
    guarded.scan_states, guarded.event = ["COMPLETE"], None
    with pytest.raises(LaunchError, match="no recent build of temper-dev-images made 1-by-hand"):
        guarded.publisher().approve("1-by-hand")


def test_a_local_build_cannot_be_approved(guarded: ImageAccount, source: ImageSource) -> None:
    with pytest.raises(LaunchError, match="leave --local out"):
        guarded.publish(source, local=True)


def test_approvals_where_none_are_needed(account: ImageAccount) -> None:
    with pytest.raises(LaunchError, match="does not require approvals"):
        account.publisher().approve()


# --- local builds


def test_a_local_build_signs_in_builds_and_pushes(
    account: ImageAccount, source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tmp_path / "docker"
    engine.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\ncat >>{tmp_path}/calls\n')
    engine.chmod(0o755)
    monkeypatch.setenv("ENGINE", str(engine))
    script = source.root / "containers" / "build.sh"
    script.write_text(f'echo "$KIND $VERSION $COMMIT $IMAGE $PUSH" >{tmp_path}/built\n')
    git(source.root, "commit", "-qam", "two")
    source = read_source(source.root, "1.2.3")
    with pytest.raises(LaunchError, match=f"has no tag {source.tag}"):
        account.publish(source, local=True)  # this engine pushes nothing
    built = (tmp_path / "built").read_text()
    assert built == f"gpu 1.2.3 {source.commit} {REPOSITORY}:{source.tag} 1\n"
    assert (
        f"login --username AWS --password-stdin {REPOSITORY.split('/')[0]}"
        in (tmp_path / "calls").read_text()
    )
    assert account.started == []
