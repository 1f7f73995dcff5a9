"""Runs of colleagues on Slurm and Kubernetes: listed, adopted, and restarted as they were."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from rich.console import Console

from emulator.environment import EmulatedEnvironment
from launch.adopt import adopt
from launch.aws.session import AwsSession
from launch.eks.kubectl import Kubectl
from launch.eks.manifests import KubernetesSettings
from launch.errors import LaunchError
from launch.remote_runs import printable
from launch.render import show_runs
from launch.slurm.script import SlurmSettings
from launch.slurm.shell import LocalShell
from launch.submission import Attempt, Submission, read_submission
from launch.targets.eks import EksTarget
from launch.targets.slurm import SlurmTarget

RUN = "chat/20261101-120000-ab12"
JOB = "chat-20261101-120000-ab12"
SCRIPT = f"""#!/bin/bash
#SBATCH --job-name={JOB}
#SBATCH --comment=temper:{JOB}
#SBATCH --output=/shared/runs/{RUN}/logs/slurm.out
srun python3 -m containers.entrypoint train
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmTarget:
    """Return a cluster on which a colleague's job runs; its squeue and sbatch are scripts."""
    tools, root = tmp_path / "bin", tmp_path / "shared"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    scripts = {
        "squeue": f'case "$*" in *%j*) echo "{JOB} RUNNING|None|node-1" ;; *) exit 0 ;; esac',
        "sbatch": f"cat ${{@: -1}} > {tmp_path}/queued; echo 8",
    }
    for name, text in scripts.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    folder = root / "runs" / RUN
    (folder / "logs").mkdir(parents=True)
    (folder / "sent.yaml").write_text("name: chat\nmodel: {source: /shared/model}\n")
    (folder / f"{JOB}.id").write_text("7\n")
    (folder / f"{JOB}.sbatch").write_text(SCRIPT)
    (folder / "status.json").write_text('{"state": "running"}')
    (folder / "metrics.jsonl").write_text('{"step": 40, "loss": 1.25}\n')
    record(folder, "anna", JOB)
    return SlurmTarget(LocalShell(), SlurmSettings(PurePosixPath(root), "python3"))


def record(folder: Path, creator: str, *jobs: str) -> None:
    attempts = tuple(Attempt(job, "", "2026-11-01T12:00:00Z") for job in jobs)
    Submission(folder, RUN, "slurm", "", creator, "2026-11-01T12:00:00Z", attempts).write()


def test_slurm_lists_the_runs_of_everyone(cluster: SlurmTarget) -> None:
    listing = cluster.list_runs(None)
    (run,) = listing.runs
    assert not listing.unreadable
    assert (run.run, run.creator, run.created) == (RUN, "anna", "2026-11-01T12:00:00Z")
    assert (run.status.state, run.status.detail) == ("training", "on node-1")
    assert (run.status.step, run.status.loss) == (40, 1.25)
    assert run.attempts == (Attempt(JOB, "7", "2026-11-01T12:00:00Z"),)


def test_slurm_run_without_a_record_has_its_owner(cluster: SlurmTarget, tmp_path: Path) -> None:
    folder = tmp_path / "shared/runs" / RUN
    (folder / "launch.json").unlink()
    (run,) = cluster.list_runs(None).runs
    assert run.creator == folder.owner() and run.attempts[0].name == JOB


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "was written by another version"),
        ('{"version": 1}', "is no record of a run"),
    ],
)
def test_slurm_record_that_is_damaged(
    text: str, problem: str, cluster: SlurmTarget, tmp_path: Path
) -> None:
    (tmp_path / "shared/runs" / RUN / "launch.json").write_text(text)
    listing = cluster.list_runs(None)
    assert not listing.runs and problem in listing.unreadable[0]


def test_slurm_job_name_of_a_colleague_is_never_run_as_a_command(
    cluster: SlurmTarget, tmp_path: Path
) -> None:
    record(tmp_path / "shared/runs" / RUN, "eve", f"x; touch {tmp_path}/planted")
    listing = cluster.list_runs(None)
    assert not listing.runs and "names no job that was queued" in listing.unreadable[0]
    assert not (tmp_path / "planted").exists()


def test_slurm_files_with_values_of_other_types(cluster: SlurmTarget, tmp_path: Path) -> None:
    folder = tmp_path / "shared/runs" / RUN
    (folder / "metrics.jsonl").write_text('{"step": "many", "loss": {"a": 1}}\n')
    (folder / "status.json").write_text('{"state": ["running"]}')
    (run,) = cluster.list_runs(None).runs
    assert (run.status.step, run.status.loss) == (None, None)
    show_runs([run.row()], Console(file=io.StringIO()), creators=True)


def test_text_of_a_colleague_cannot_control_the_terminal() -> None:
    assert printable("\x1b[2Janna\r\n") == "?[2Janna??"


def test_slurm_run_is_adopted_and_queued_again(cluster: SlurmTarget, tmp_path: Path) -> None:
    (run,) = cluster.list_runs(None).runs
    submission, missing = adopt(run, cluster, tmp_path / "mine")
    assert not missing
    assert (submission.folder / "job.yaml").read_text().startswith("name: chat")
    again = submission.with_new_attempt()
    again.write()
    accepted = cluster.restart(again)
    assert accepted.latest == Attempt(f"{JOB}-2", "8", again.latest.requested_at)
    queued = (tmp_path / "queued").read_text()
    assert queued == SCRIPT.replace(f"job-name={JOB}", f"job-name={JOB}-2").replace(
        f"temper:{JOB}", f"temper:{JOB}-2"
    )
    kept = read_submission(submission.folder)
    assert kept is not None and kept.latest.handle == "8"


# Kubernetes


MANIFEST: dict[str, Any] = {
    "apiVersion": "kubeflow.org/v1",
    "kind": "PyTorchJob",
    "metadata": {
        "name": JOB,
        "namespace": "kubeflow",
        "uid": "1",
        "resourceVersion": "9",
        "creationTimestamp": "2026-11-01T12:00:00Z",
        "labels": {"temper/job": "chat", "temper/run": "20261101-120000-ab12"},
        "annotations": {"temper/creator": "anna"},
    },
    "spec": {
        "runPolicy": {"suspend": True, "cleanPodPolicy": "None"},
        "pod": {"volumes": [{"name": "job", "configMap": {"name": JOB}}]},
    },
    "status": {"conditions": [{"type": "Suspended", "status": "True"}]},
}
CONFIG = {
    "kind": "ConfigMap",
    "metadata": {"name": JOB, "namespace": "kubeflow", "uid": "2"},
    "data": {"job.yaml": "model:\n  source: /fsx/data/uploads/abc/shape\n"},
}


class JobsKubectl(Kubectl):
    """Client of a namespace with one job, which records what is applied."""

    def __init__(self, *jobs: dict[str, Any]):
        super().__init__("kubeflow")
        self.jobs, self.applied = jobs, ""

    def run(self, *arguments: str, stdin: str = "") -> str:
        if arguments[0] == "apply":
            self.applied = stdin
            return ""
        if arguments[1] == "persistentvolumeclaim":
            return json.dumps({"metadata": {"uid": "uid-1"}})
        if "--output=json" in arguments and arguments[2].startswith("--selector"):
            return json.dumps({"items": self.jobs})
        return json.dumps(CONFIG if arguments[1] == "configmap" else self.jobs[0])


@pytest.fixture
def make_target(
    emulated: EmulatedEnvironment, account: AwsSession
) -> Callable[..., tuple[EksTarget, JobsKubectl]]:
    def make(*jobs: dict[str, Any]) -> tuple[EksTarget, JobsKubectl]:
        kubectl = JobsKubectl(*jobs)
        return EksTarget(account, kubectl, KubernetesSettings()), kubectl

    return make


def test_kubernetes_run_is_adopted_and_applied_again(
    make_target: Callable[..., tuple[EksTarget, JobsKubectl]], tmp_path: Path
) -> None:
    target, kubectl = make_target(MANIFEST)
    (run,) = target.list_runs(None).runs
    assert (run.run, run.creator, run.status.state) == (RUN, "anna", "stopped")
    submission, missing = adopt(run, target, tmp_path)
    assert not missing
    job = yaml.safe_load((submission.folder / "job.yaml").read_text())
    assert job["model"]["source"].startswith("s3://temper-dev-data-")
    again = submission.with_new_attempt()
    again.write()
    assert target.restart(again).latest.handle == f"kubeflow/{JOB}-2@uid-1"
    config, applied = yaml.safe_load_all(kubectl.applied)
    assert config["metadata"] == {"name": f"{JOB}-2", "namespace": "kubeflow"}
    assert applied["metadata"]["name"] == f"{JOB}-2"
    assert "uid" not in applied["metadata"] and "status" not in applied
    assert applied["spec"]["runPolicy"] == {"cleanPodPolicy": "None"}
    assert applied["spec"]["pod"]["volumes"][0]["configMap"]["name"] == f"{JOB}-2"


def test_kubernetes_job_whose_labels_name_no_run(
    make_target: Callable[..., tuple[EksTarget, JobsKubectl]],
) -> None:
    labels = {"temper/job": "..", "temper/run": ".."}
    planted = {**MANIFEST, "metadata": {**MANIFEST["metadata"], "labels": labels}}
    target, _ = make_target(planted)
    listing = target.list_runs(None)
    assert not listing.runs and "its labels name no run" in listing.unreadable[0]


def test_kubernetes_job_file_that_is_gone(
    make_target: Callable[..., tuple[EksTarget, JobsKubectl]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target, kubectl = make_target(MANIFEST)
    (run,) = target.list_runs(None).runs
    monkeypatch.setattr(kubectl, "find", lambda *_: None)
    with pytest.raises(LaunchError, match=f"no ConfigMap {JOB}"):
        target.job_document(run)
