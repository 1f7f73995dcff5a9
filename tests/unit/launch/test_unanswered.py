"""Targets that cannot be asked: no query that fails ever ends a run or starts a second job."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from botocore.stub import Stubber

from emulator.environment import EmulatedEnvironment
from launch.aws.session import AwsSession
from launch.eks.kubectl import Kubectl
from launch.eks.manifests import KubernetesSettings
from launch.errors import LaunchError
from launch.inspect_run import refresh_row
from launch.prepared_job import PreparedJob
from launch.run_index import RunIndex
from launch.slurm.script import SlurmSettings
from launch.slurm.shell import LocalShell
from launch.submission import Attempt, Submission, TargetName, read_submission
from launch.targets.base import Target
from launch.targets.eks import EksTarget
from launch.targets.local import read_folder
from launch.targets.sagemaker import SageMakerTarget
from launch.targets.slurm import SlurmTarget
from tests.factories import write_jsonl
from tests.unit.launch.conftest import boto
from tests.unit.launch.fake_accounts import ACCOUNT, DEV
from training.config.load import parse_job
from training.run_folder import RunFolder

RUN = "lost/20261101-120000-ab12"
JOB = "lost-20261101-120000-ab12"
ARN = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:training-job/{JOB}"


def submitted(runs: Path, target: TargetName, handle: str) -> Submission:
    folder = runs / RUN
    folder.mkdir(parents=True)
    attempt = Attempt(JOB, handle, "2026-11-01T12:00:00Z")
    environment = "" if target == "slurm" else "dev"
    created = "2026-11-01T12:00:00Z"
    submission = Submission(folder, RUN, target, environment, "me", created, (attempt,))
    submission.write()
    return submission


def refuse_to_end(
    submission: Submission, target: Target, monkeypatch: pytest.MonkeyPatch, match: str
) -> None:
    """Ask for the status as `make status` does, and expect an error and an unchanged record."""
    runs = submission.folder.parents[1]
    with pytest.raises(LaunchError, match=match):
        target.status(submission)
    monkeypatch.setattr("launch.inspect_run.make_target", lambda *_: target)
    (row,) = RunIndex(runs).rows()
    row, problem = refresh_row(runs, row)
    assert problem and row.status.state == "training"
    record = read_submission(submission.folder)
    assert record is not None and record.final_status is None


# Slurm


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that replaces squeue (and sbatch, which counts) by a script."""
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")

    def replace(script: str) -> None:
        for name, text in {
            "squeue": script,
            "sbatch": f"echo sbatch >> {tmp_path}/calls; echo 7",
            "scancel": f'echo "scancel $*" >> {tmp_path}/calls',
        }.items():
            (tools / name).write_text(f"#!/bin/bash\n{text}\n")
            (tools / name).chmod(0o755)

    return replace


@pytest.fixture
def cluster(tmp_path: Path) -> SlurmTarget:
    root = tmp_path / "shared"
    folder = root / "runs" / RUN
    (folder / "logs").mkdir(parents=True)
    (folder / f"{JOB}.id").write_text("7\n")
    (folder / "status.json").write_text('{"state": "running"}')
    return SlurmTarget(LocalShell(), SlurmSettings(PurePosixPath(root), "python3"))


TIMED_OUT = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
OUTAGES = {
    "controller": TIMED_OUT,
    "socket": "echo 'slurm_load_jobs error: Socket timed out on send/recv operation' >&2; exit 1",
    "munge": "echo 'error: Munge encode failed: Failed to access socket' >&2; exit 1",
    "not installed": "exec no-such-squeue",
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_slurm_outage(
    outage: str,
    squeue: Callable[[str], None],
    cluster: SlurmTarget,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    squeue(OUTAGES[outage])
    submission = submitted(tmp_path / "runs", "slurm", "7")
    refuse_to_end(submission, cluster, monkeypatch, "squeue could not be asked")
    with pytest.raises(LaunchError, match="squeue could not be asked"):
        cluster.stop(submission)
    assert not (tmp_path / "calls").exists()
    # The queue works again, and still has the job: nothing was lost.
    squeue("echo 'RUNNING|None|node-1'")
    assert cluster.status(submission).state == "stopping"


@pytest.mark.parametrize(
    "gone", ["echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "exit 0"]
)
@pytest.mark.parametrize(("recorded", "state"), [("running", "training failed"), ("finished", "")])
def test_slurm_job_that_is_gone(
    gone: str,
    recorded: str,
    state: str,
    squeue: Callable[[str], None],
    cluster: SlurmTarget,
    tmp_path: Path,
) -> None:
    squeue(gone)
    submission = submitted(tmp_path / "runs", "slurm", "7")
    status_file = tmp_path / "shared/runs" / RUN / "status.json"
    status_file.write_text(json.dumps({"state": recorded}))
    assert cluster.status(submission).state == (state or "not deployed")
    assert cluster.stop(submission) == f"{JOB} is not running"


def test_slurm_without_its_shared_folder(
    squeue: Callable[[str], None],
    cluster: SlurmTarget,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    squeue("exit 0")
    submission = submitted(tmp_path / "runs", "slurm", "7")
    shutil.rmtree(tmp_path / "shared/runs")
    refuse_to_end(submission, cluster, monkeypatch, "the end of the run is unknown")
    shutil.rmtree(tmp_path / "shared")
    with pytest.raises(LaunchError, match="is the shared file system mounted"):
        cluster.status(submission)
    with pytest.raises(LaunchError, match="is the shared file system mounted"):
        cluster.stop(submission)


def test_slurm_outage_queues_no_second_job(
    squeue: Callable[[str], None], cluster: SlurmTarget, tmp_path: Path
) -> None:
    """The first sbatch was accepted and its answer lost; then the queue cannot be asked."""
    squeue(TIMED_OUT)
    submission = submitted(tmp_path / "runs", "slurm", "")
    (tmp_path / "shared/runs" / RUN / f"{JOB}.id").unlink()
    with pytest.raises(LaunchError, match="squeue could not be asked"):
        cluster.status(submission)
    with pytest.raises(LaunchError, match="squeue could not be asked"):
        submit_again(cluster, submission, tmp_path)
    assert not (tmp_path / "calls").exists()
    squeue('case "$*" in *-n*) echo 7 ;; *) echo "PENDING|Priority|" ;; esac')
    assert cluster.status(submission).state == "training"
    assert submit_again(cluster, submission, tmp_path).latest.handle == "7"
    assert not (tmp_path / "calls").exists()


def submit_again(cluster: SlurmTarget, submission: Submission, work: Path) -> Submission:
    model, rows = work / "shape", write_jsonl(work / "rows.jsonl", [{"text": "a"}])
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text("{}")
    document = {
        "name": "lost",
        "model": {"source": str(model)},
        "data": {"train": str(rows)},
        "method": {"kind": "sft"},
        "train": {"max_steps": 2},
    }
    plan: Any = None  # only a quote needs one
    return cluster.submit(submission, PreparedJob(parse_job(document, "test"), plan, "job.yaml"))


# SageMaker


REJECTED = {
    "throttled": ("ThrottlingException", "Rate exceeded"),
    "denied": ("AccessDeniedException", "not authorized to perform DescribeTrainingJob"),
    "invalid": ("ValidationException", "1 validation error detected: Value at 'trainingJobName'"),
    "expired": ("ExpiredTokenException", "The security token included is expired"),
}


@pytest.mark.parametrize("reason", REJECTED)
def test_sagemaker_that_does_not_answer(
    reason: str, emulated: EmulatedEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = SageMakerTarget(AwsSession(DEV))
    submission = submitted(tmp_path / "runs", "sagemaker", ARN)
    with Stubber(target.account.client("sagemaker")) as answers:
        for _ in range(2):
            answers.add_client_error("describe_training_job", *REJECTED[reason], 400)
        refuse_to_end(submission, target, monkeypatch, "describing the training job")


def test_sagemaker_of_another_account(
    emulated: EmulatedEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = SageMakerTarget(AwsSession(DEV))
    submission = submitted(tmp_path / "runs", "sagemaker", ARN.replace(ACCOUNT, "999999999999"))
    refuse_to_end(submission, target, monkeypatch, "is in account 999999999999")
    shutil.rmtree(submission.folder)
    other = submitted(tmp_path / "runs", "sagemaker", ARN.replace("us-east-1", "eu-west-1"))
    refuse_to_end(other, target, monkeypatch, "eu-west-1")


def test_sagemaker_job_that_was_deleted(emulated: EmulatedEnvironment, tmp_path: Path) -> None:
    target = SageMakerTarget(AwsSession(DEV))
    submission = submitted(tmp_path / "runs", "sagemaker", ARN)
    status = target.status(submission)
    assert (status.state, status.detail) == ("stopped", "SageMaker no longer has this job")


# EKS


class FakeKubectl(Kubectl):
    """Client of a cluster that has a volume claim and no job, or that fails."""

    def __init__(self, claim: str, failure: str = ""):
        super().__init__("kubeflow")
        self.claim, self.failure = claim, failure

    def run(self, *arguments: str, stdin: str = "") -> str:
        if self.failure:
            raise LaunchError(self.failure)
        if arguments[1] == "persistentvolumeclaim":
            return json.dumps({"metadata": {"uid": self.claim}})
        return ""


def eks(account: AwsSession, kubectl: Kubectl) -> EksTarget:
    return EksTarget(account, kubectl, KubernetesSettings())


@pytest.mark.parametrize(
    ("claim", "failure", "match"),
    [
        ("uid-1", "the cluster did not answer within 60 s", "did not answer"),
        ("uid-2", "", "another cluster or namespace"),
    ],
)
def test_eks_that_cannot_be_asked(
    claim: str,
    failure: str,
    match: str,
    emulated: EmulatedEnvironment,
    account: AwsSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = eks(account, FakeKubectl(claim, failure))
    submission = submitted(tmp_path / "runs", "eks", f"kubeflow/{JOB}@uid-1")
    refuse_to_end(submission, target, monkeypatch, match)
    with pytest.raises(LaunchError, match=match):
        target.stop(submission)


@pytest.mark.parametrize(
    ("recorded", "state"),
    [("finished", "not deployed"), ("failed", "training failed"), ("", "stopped")],
)
def test_eks_job_that_was_deleted(
    recorded: str,
    state: str,
    emulated: EmulatedEnvironment,
    account: AwsSession,
    tmp_path: Path,
) -> None:
    target = eks(account, FakeKubectl("uid-1"))
    submission = submitted(tmp_path / "runs", "eks", f"kubeflow/{JOB}@uid-1")
    key = f"runs/{RUN}/status.json"
    bucket = target.platform["buckets/data"]
    boto(emulated, "s3").delete_object(Bucket=bucket, Key=key)
    if recorded:
        body = json.dumps({"state": recorded, "message": "why"}).encode()
        boto(emulated, "s3").put_object(Bucket=bucket, Key=key, Body=body)
    assert target.status(submission).state == state
    boto(emulated, "s3").delete_object(Bucket=bucket, Key=key)


# Local


def test_local_lock_that_cannot_be_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks, such as NFS without its lock daemon."""
    folder = tmp_path / "runs/lost/20261101-120000-ab12"
    folder.mkdir(parents=True)
    (folder / ".lock").touch()
    RunFolder(folder).set_state("running")
    assert read_folder(folder).state == "stopped"

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    status = read_folder(folder)
    assert not status.is_over and "No locks available" in status.detail
    (row,) = RunIndex(tmp_path / "runs").rows()
    assert not row.status.is_over
