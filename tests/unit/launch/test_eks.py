"""Deletion of a run on EKS by people who may not delete data."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.stub import Stubber

from emulator.environment import EmulatedEnvironment
from launch.aws.session import AwsSession
from launch.commands import delete_run
from launch.eks.manifests import KubernetesSettings
from launch.errors import LaunchError
from launch.targets.eks import EksTarget
from tests.unit.launch.fake_accounts import DEV
from tests.unit.launch.test_unanswered import JOB, RUN, FakeKubectl, submitted

DENIED = {"Code": "AccessDenied", "Message": "Access Denied"}
OBJECTS = {
    "Contents": [
        {"Key": f"runs/{RUN}/{name}", "Size": 3, "LastModified": datetime(2026, 1, 1, tzinfo=UTC)}
        for name in ("a", "b")
    ]
}


@pytest.fixture
def target(emulated: EmulatedEnvironment) -> EksTarget:
    return EksTarget(AwsSession(DEV), FakeKubectl("uid-1"), KubernetesSettings())


def test_data_that_may_not_be_deleted(
    target: EksTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record here goes, the objects that stay are named, and no traceback is shown."""
    submission = submitted(tmp_path / "runs", "eks", f"kubeflow/{JOB}@uid-1")
    monkeypatch.setattr("launch.inspect_run.make_target", lambda *_: target)
    errors = [{"Key": entry["Key"], **DENIED} for entry in OBJECTS["Contents"]]
    with Stubber(target.account.client("s3")) as answers:
        answers.add_client_error("get_object", "NoSuchKey", "no status.json", 404)
        answers.add_response("list_objects_v2", OBJECTS)  # the size, to ask about
        answers.add_response("list_objects_v2", OBJECTS)
        answers.add_response("delete_objects", {"Errors": errors})
        with pytest.raises(LaunchError, match=r"2 of 2 objects below s3://.* were not") as e:
            delete_run(RUN, tmp_path / "runs")
    assert "Access Denied" in str(e.value) and "aws s3 rm --recursive" in str(e.value)
    assert not submission.folder.exists()


def test_request_that_is_denied(target: EksTarget, tmp_path: Path) -> None:
    submission = submitted(tmp_path / "runs", "eks", f"kubeflow/{JOB}@uid-1")
    with Stubber(target.account.client("s3")) as answers:
        answers.add_response("list_objects_v2", OBJECTS)
        answers.add_client_error("delete_objects", "AccessDenied", "no s3:DeleteObject", 403)
        (left,) = target.delete(submission)
    assert "deleting s3://" in left and "no s3:DeleteObject" in left
