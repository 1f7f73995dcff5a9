"""A real Slurm cluster of two nodes: submit, follow, fail a node, preempt, stop, resume, fetch."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from launch.errors import LaunchError
from launch.slurm.script import SlurmSettings
from launch.slurm.shell import LocalShell
from launch.submission import Submission
from launch.submit import SubmitRequest, submit
from launch.targets.slurm import SlurmTarget
from tests.launch.slurm_cluster import SlurmCluster, slurm_cluster, why_not
from tests.run_commands import Run, assert_identical, changed, train_by_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(why_not() != "", reason=why_not()),
]


@pytest.fixture(scope="module")
def lab() -> Iterator[SlurmCluster]:
    with slurm_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(lab: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """Yield the cluster without jobs, with the environment variables that point to it."""
    for name, value in lab.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("YES", "1")
    yield lab
    lab.ask("scancel", "--user=root")


@pytest.fixture
def counting(tmp_path: Path) -> SlurmTarget:
    """Return the cluster as a target whose nodes only count."""
    python = tmp_path / "counting"
    script = Path(__file__).with_name("counting_model.py")
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    python.chmod(0o755)
    return SlurmTarget(LocalShell(), SlurmSettings(PurePosixPath(tmp_path / "shared"), str(python)))


@pytest.fixture
def make_request(document: dict[str, Any], tmp_path: Path) -> Callable[..., SubmitRequest]:
    """Return a factory of requests for a job on both nodes."""

    def make(steps: int, **resources: Any) -> SubmitRequest:
        job = changed(
            document,
            train={"max_steps": steps, "micro_batch_size": 4},
            checkpoint={"every": "5 steps"},
            resources={"count": 2, "processes": 1, **resources},
        )
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(job))
        return SubmitRequest(path, "", "slurm", "", tmp_path / "runs")

    return make


def until(happened: Callable[[], bool], timeout_s: float = 900) -> None:
    end = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.2)


def log_of(target: SlurmTarget, submission: Submission) -> list[str]:
    return list(target.logs(submission, follow=False))


def starts_of(target: SlurmTarget, submission: Submission) -> list[list[int]]:
    """Return the steps that each start of a job has logged."""
    found: list[list[int]] = []
    for line in log_of(target, submission):
        if line.startswith("start "):
            found.append([])
        elif line.startswith("step ") and "| loss" in line:
            found[-1].append(int(line.split()[1].partition("/")[0]))
    return found


def reach(target: SlurmTarget, submission: Submission, step: int) -> None:
    def far_enough() -> bool:
        status = target.status(submission)
        assert not status.is_over, "\n".join([status.detail, *log_of(target, submission)])
        return (status.step or 0) >= step

    until(far_enough)


def await_end(target: SlurmTarget, submission: Submission) -> str:
    until(lambda: target.status(submission).is_over)
    return target.status(submission).state


def test_follow_attach_fetch_and_delete(
    cluster: SlurmCluster, counting: SlurmTarget, make_request: Callable[..., SubmitRequest]
) -> None:
    request = make_request(40)
    submission = submit(request, counting, print)
    assert submission.latest.handle.isdigit()
    printed: list[str] = []
    assert submit(request, counting, printed.append) == submission
    assert "is training already" in printed[0]
    lines = list(counting.logs(submission, follow=True))
    assert [line.split()[1] for line in lines if line.startswith("step")][-1] == "40/40"
    assert lines[0] == "start 0 on n[1-2]"
    until(lambda: counting.status(submission).is_over)
    status = counting.status(submission)
    assert (status.state, status.step, status.loss) == ("not deployed", 40, 0.1)
    fetched = {path.name for path in counting.fetch(submission, archive=False, checkpoints=False)}
    assert {"model", "metrics.jsonl"} <= fetched and "checkpoints" not in fetched
    assert json.loads((submission.folder / "model/counted.json").read_text()) == {"steps": 40}
    ((where, size),) = counting.remote_storage(submission)
    assert where.endswith(submission.run) and size > 0
    assert counting.delete(submission) == []
    assert counting.remote_storage(submission) == []


def test_stop_and_resume(
    cluster: SlurmCluster, counting: SlurmTarget, make_request: Callable[..., SubmitRequest]
) -> None:
    request = make_request(60)
    submission = submit(request, counting, print)
    reach(counting, submission, 8)
    assert "saves a checkpoint first" in counting.stop(submission)
    assert await_end(counting, submission) == "stopped"
    assert len(starts_of(counting, submission)) == 1, "a run that the user stopped is not requeued"
    again = submit(request, counting, print)
    assert again.latest.name == f"{submission.latest.name}-2"
    assert await_end(counting, again) == "not deployed"
    first, second = starts_of(counting, again)
    assert second[0] == first[-1] + 1


def test_preemption_loses_no_step(
    cluster: SlurmCluster, counting: SlurmTarget, make_request: Callable[..., SubmitRequest]
) -> None:
    """A job of higher priority preempts this one, which saves and is requeued."""
    submission = submit(make_request(60, partition="spot"), counting, print)
    reach(counting, submission, 8)
    cluster.ask("sbatch", "-p", "ondemand", "-N2", "--exclusive", "-o/dev/null", "--wrap=sleep 2")
    assert await_end(counting, submission) == "not deployed"
    first, second = starts_of(counting, submission)
    assert second[0] == first[-1] + 1, "it saved on the signal"
    assert "signalled by Slurm: saving" in log_of(counting, submission)


def test_failure_of_the_batch_node(
    cluster: SlurmCluster, counting: SlurmTarget, make_request: Callable[..., SubmitRequest]
) -> None:
    submission = submit(make_request(120), counting, print)
    reach(counting, submission, 12)
    cluster.kill_node("n1")
    until(lambda: "waiting" in counting.status(submission).detail)
    assert counting.status(submission).state == "training"
    cluster.start_node("n1")
    assert await_end(counting, submission) == "not deployed"
    first, second = starts_of(counting, submission)
    assert 0 <= first[-1] + 1 - second[0] <= 5, "at most one interval is lost"


def test_node_failure_gives_the_same_weights(
    cluster: SlurmCluster, make_request: Callable[..., SubmitRequest], tmp_path: Path
) -> None:
    """Real training, on two nodes with a process each."""
    target = SlurmTarget(
        LocalShell(), SlurmSettings(PurePosixPath(tmp_path / "shared"), sys.executable)
    )
    request = make_request(40)
    submission = submit(request, target, print)
    reach(target, submission, 12)
    cluster.kill_node("n2")
    until(lambda: "waiting" in target.status(submission).detail)
    cluster.start_node("n2")
    assert await_end(target, submission) == "not deployed", "\n".join(
        log_of(target, submission)[-30:]
    )
    # A returning node may kill a start at once, which then took no step.
    first, second = (steps for steps in starts_of(target, submission) if steps)
    assert 1 < second[0] <= first[-1] + 1 <= second[0] + 5
    target.fetch(submission, archive=False, checkpoints=False)
    job = changed(yaml.safe_load(request.job.read_text()), resources={"count": 1, "processes": 2})
    whole = train_by_command(job, tmp_path / "whole")
    assert_identical(Run(submission.folder), whole)
    assert Run(submission.folder).samples == whole.samples


def test_rejected_job_has_reason(
    cluster: SlurmCluster, make_request: Callable[..., SubmitRequest], tmp_path: Path
) -> None:
    """A problem that only the nodes can detect (here: two processes, rows for one) is reported."""
    target = SlurmTarget(
        LocalShell(), SlurmSettings(PurePosixPath(tmp_path / "shared"), sys.executable)
    )
    submission = submit(
        replace(make_request(5), overrides="train.micro_batch_size=8"), target, print
    )
    assert await_end(target, submission) == "training failed"
    assert "sent.yaml: 1 problem" in target.status(submission).detail
    assert any("Set it to a multiple of 16" in line for line in log_of(target, submission))


def test_preflight_problems(
    cluster: SlurmCluster, counting: SlurmTarget, make_request: Callable[..., SubmitRequest]
) -> None:
    from launch.errors import LaunchError

    nowhere = SlurmTarget(
        LocalShell(), replace(counting.cluster, root=PurePosixPath("/proc/temper"))
    )
    with pytest.raises(LaunchError) as caught:
        submit(make_request(5, count=3), nowhere, print)
    assert "the cluster has 2 nodes, and the job requests 3" in str(caught.value)
    assert "SLURM_ROOT=" in str(caught.value)


def test_without_pyxis_a_job_in_a_container_is_refused_with_the_fix(
    cluster: SlurmCluster, make_request: Callable[..., SubmitRequest], tmp_path: Path
) -> None:
    settings = SlurmSettings(
        PurePosixPath(tmp_path / "shared"),
        "",
        software="container",
        image="123456789012.dkr.ecr.us-east-1.amazonaws.com/temper-dev/gpu@sha256:0123",
        setup_command="make cluster-software ENV=dev",
    )
    with pytest.raises(LaunchError) as refused:
        submit(make_request(5), SlurmTarget(LocalShell(), settings), print)
    message = str(refused.value)
    assert "the nodes lack Enroot and Pyxis" in message
    assert "import it: make cluster-software ENV=dev" in message
    assert cluster.ask("squeue", "-h") == ""
