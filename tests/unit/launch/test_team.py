"""Runs of colleagues: listed from the tags of their jobs, and adopted on another machine."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from emulator.environment import EmulatedEnvironment
from launch.adopt import adopt
from launch.aws.job_search import list_training_runs
from launch.aws.restart import restart_request
from launch.aws.session import AwsSession
from launch.commands import adopt_run, delete_run, fetch_run, resume_run, show_team, stop_run
from launch.errors import LaunchError, NoSuchRunError
from launch.inspect_run import open_run
from launch.submission import attempt_name, read_submission
from launch.submit import SubmitRequest, submit
from launch.targets.sagemaker import SageMakerTarget
from launch.team import TeamRuns
from tests.unit.launch.conftest import await_end, boto, run_to_end, steps_of, until
from tests.unit.launch.fake_accounts import ACCOUNT


@pytest.fixture(autouse=True)
def one_session(account: AwsSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use one session in every command: creating clients takes most of a test's time."""
    for module in ("launch.team", "launch.targets.sagemaker"):
        monkeypatch.setattr(f"{module}.AwsSession", lambda environment: account)


def past_job(
    number: int, *, environment: str = "dev", attempt: int = 1, **changes: Any
) -> dict[str, Any]:
    """Return a completed job of one of five people, `number` hours old."""
    run = changes.pop("run", f"job-{number % 7}/2026{number:04d}-120000-ab12")
    name, _, run_id = run.rpartition("/")
    created = time.time() - 3600 * number + 60 * attempt
    job = re.sub("[^a-zA-Z0-9]+", "-", attempt_name(run, attempt)).strip("-")
    tags = {
        "Project": "temper",
        "Environment": environment,
        "temper:job": name,
        "temper:run": run_id,
        "temper:creator": f"person-{number % 5}",
    }
    return {
        "TrainingJobName": job,
        "TrainingJobArn": f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:training-job/{job}",
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86_400},
        "CreationTime": created,
        "TrainingStartTime": created,
        "TrainingEndTime": created + 3600,
        "BillableTimeInSeconds": 3600,
        "ResourceConfig": {
            "InstanceType": "ml.g5.2xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 100,
        },
        "FinalMetricDataList": [
            {"MetricName": "step", "Value": 20.0, "Timestamp": created},
            {"MetricName": "loss", "Value": 0.5, "Timestamp": created},
        ],
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        **changes,
    }


def test_three_hundred_jobs_take_three_requests(emulated: EmulatedEnvironment) -> None:
    for number in range(300):
        emulated.service.add_past_job(past_job(number))
    for number in range(40):
        emulated.service.add_past_job(past_job(number + 300, environment="prod"))
    emulated.service.errors.plant("Search", "ThrottlingException")
    listing = list_training_runs(boto(emulated, "sagemaker"), "dev", None)
    assert emulated.service.calls == ["Search"] * 4, "three pages, and one retry"
    assert len(listing.runs) == 300 and not listing.unreadable
    assert {run.creator for run in listing.runs} == {f"person-{n}" for n in range(5)}
    assert [run.created for run in listing.runs] == sorted(run.created for run in listing.runs)
    newest = listing.runs[-1]
    assert newest.run == "job-0/20260000-120000-ab12"
    assert (newest.status.state, newest.status.step, newest.status.loss) == (
        "not deployed",
        20,
        0.5,
    )
    assert newest.status.cost_usd is not None and newest.status.cost_usd > 1


def test_only_recent_jobs_unless_all_are_asked_for(emulated: EmulatedEnvironment) -> None:
    emulated.service.add_past_job(past_job(1))
    emulated.service.add_past_job(past_job(24 * 45))
    client = boto(emulated, "sagemaker")
    assert len(list_training_runs(client, "dev", 30).runs) == 1
    assert len(list_training_runs(client, "dev", None).runs) == 2


def test_attempts_are_one_run_with_all_of_its_cost(emulated: EmulatedEnvironment) -> None:
    run = "long/20261101-120000-ab12"
    for attempt in (1, 2, 3):
        emulated.service.add_past_job(past_job(5, attempt=attempt, run=run))
    (listed,) = list_training_runs(boto(emulated, "sagemaker"), "dev", None).runs
    names = [attempt.name for attempt in listed.attempts]
    assert names == [attempt_name(run, n) for n in (1, 2, 3)]
    assert listed.status.seconds == 3 * 3600


def test_cost_is_unknown_without_an_earlier_attempt(emulated: EmulatedEnvironment) -> None:
    run = "long/20261101-120000-ab12"
    emulated.service.add_past_job(past_job(5, attempt=3, run=run))
    (listed,) = list_training_runs(boto(emulated, "sagemaker"), "dev", None).runs
    assert listed.status.seconds is None and listed.status.cost_usd is None


@pytest.mark.parametrize("run", ["../../etc/x", "a/../b", "/x", "name/"])
def test_tags_that_name_no_run_are_reported(emulated: EmulatedEnvironment, run: str) -> None:
    emulated.service.add_past_job(past_job(2, run=run, TrainingJobName="planted"))
    listing = list_training_runs(boto(emulated, "sagemaker"), "dev", None)
    assert not listing.runs
    assert "planted: its tags name no run" in listing.unreadable[0]


def test_table_of_the_team(
    emulated: EmulatedEnvironment, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        emulated.service.add_past_job(past_job(number))
    show_team("", "dev")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "creator", "state", "where", "step", "loss", "age", "cost"]
    assert "person-2" in lines[1] and "sagemaker dev" in lines[1] and "$1.51" in lines[1]
    assert "--all lists older ones" in lines[-1]
    show_team("job-1", "dev")
    assert "creator       person-1" in capsys.readouterr().out
    with pytest.raises(NoSuchRunError, match="no such run in the environment dev"):
        show_team("other", "dev")


def test_target_that_cannot_be_asked_is_named(
    emulated: EmulatedEnvironment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    emulated.service.add_past_job(past_job(0))
    monkeypatch.setenv("SLURM_ROOT", str(tmp_path / "not-mounted"))
    with pytest.raises(LaunchError, match=r"not shown: slurm: .*not-mounted does not exist"):
        show_team("", "dev")
    assert "person-0" in capsys.readouterr().out


def test_run_on_this_machine_is_never_overwritten(
    emulated: EmulatedEnvironment, tmp_path: Path
) -> None:
    emulated.service.add_past_job(past_job(0))
    folder = tmp_path / "job-0/20260000-120000-ab12"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(LaunchError, match="already, and is not overwritten"):
        adopt_run("job-0", "dev", tmp_path)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["job-0"]


def test_missing_job_file_is_reported(
    emulated: EmulatedEnvironment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emulated.service.add_past_job(past_job(0))
    adopt_run("job-0", "dev", tmp_path)
    printed = capsys.readouterr().out
    assert "submitted by person-0" in printed
    assert "its job file could not be read: s3://" in printed
    record = read_submission(tmp_path / "job-0/20260000-120000-ab12")
    assert record is not None and record.adopted and record.final_status is not None


def test_restarted_job_has_the_request_of_the_first(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    submission, job = run_to_end(target, make_request(steps=1))
    sent = emulated.service.job(submission.latest.name).request
    client = target.account.client("sagemaker")
    again = restart_request(client, job, "again", sent["Tags"])
    assert again == {**sent, "TrainingJobName": "again"}


@pytest.mark.slow
def test_colleague_takes_over_a_run(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another machine has no job file, no data and no record, and stops, resumes and fetches."""
    theirs = submit(make_request(steps=200), target, print)
    until(lambda: (target.status(theirs).step or 0) > 5)
    mine = tmp_path / "mine"
    adopt_run("count", "dev", mine)
    submission, _ = open_run(mine, "count")
    assert submission.creator == theirs.creator and submission.attempts[0].name == (
        theirs.latest.name
    )
    job = yaml.safe_load((submission.folder / "job.yaml").read_text())
    assert job["data"]["train"][0]["source"].startswith("s3://temper-dev-data-")
    assert job["data"]["train"][0]["source"].endswith("/rows.jsonl")
    stop_run("count", mine)
    assert await_end(target, submission) == "stopped"
    resume_run("count", mine)
    printed = capsys.readouterr().out
    assert "1 × ml.g5.2xlarge" in printed and "at most 24.0 h" in printed
    resumed = read_submission(submission.folder)
    assert resumed is not None and resumed.latest.name == f"{theirs.latest.name}-2"
    assert await_end(target, resumed) == "not deployed"
    (first,), (second,) = (steps_of(emulated, attempt.name) for attempt in resumed.attempts)
    assert first[-1] + 1 == second[0] and second[-1] == 200
    fetch_run("count", mine)
    assert json.loads((submission.folder / "model/counted.json").read_text()) == {"steps": 200}
    delete_run("count", mine)
    assert not submission.folder.exists()
    left = boto(emulated, "s3").list_objects_v2(
        Bucket=target.platform["buckets/models"], Prefix=f"models/{theirs.run}"
    )
    assert not left["KeyCount"]


@pytest.mark.slow
def test_own_unfinished_run_is_resumed_although_a_newer_one_was_adopted(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    request = make_request(steps=200)
    own = submit(request, target, print)
    newer = past_job(0, run="count/29991231-235959-ffff")
    emulated.service.add_past_job(newer)
    team = TeamRuns("dev")
    team.read(None)
    adopt(*team.find("count/29991231-235959-ffff"), request.runs)
    lines: list[str] = []
    again = submit(request, target, lines.append)
    assert again.run == own.run and "is training already" in lines[0]
