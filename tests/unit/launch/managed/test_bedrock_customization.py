"""Customization of Bedrock's models, from the job file to the custom model, on the emulator."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from launch.adopt import adopt
from launch.errors import LaunchError
from launch.submission import Attempt, read_submission
from registry.run_model import read_run_model
from tests.unit.launch.managed.conftest import MICRO, ManagedAccount, submit_job
from training.errors import JobError
from training.run_folder import RunFolder

SOURCE = f"bedrock:{MICRO}"


def test_run_from_submission_to_the_custom_model(
    managed: ManagedAccount, job: Callable[..., Path]
) -> None:
    target = managed.bedrock_target
    submission, lines = submit_job(job(SOURCE, data__validation={"split": "10%"}), target)
    shown = "\n".join(lines)
    assert "Amazon Bedrock trains amazon.nova-micro-v1:0 (FINE_TUNING)" in shown
    assert "108 rows, 12 held out, as converse" in shown
    assert "epochCount 2" in shown
    assert "USD" in shown
    status = target.status(submission)
    assert (status.state, status.detail) == ("training", "checking its data")
    again, _ = submit_job(job(SOURCE, data__validation={"split": "10%"}), target)
    assert again.latest == submission.latest  # attached, not paid twice
    managed.clock.advance(150)
    assert target.status(submission).detail == "processing its data"
    managed.clock.advance(300)
    assert target.status(submission).state == "not deployed"
    assert any("step_wise" in line for line in target.logs(submission, follow=False))
    fetched = target.fetch(submission, archive=False, checkpoints=False)
    model = json.loads((submission.folder / "model/managed_model.json").read_text())
    assert model["custom_model"].startswith("arn:aws:bedrock:us-east-1:")
    assert (submission.folder / "model/SHA256SUMS").is_file()
    assert any(path.suffix == ".csv" for path in fetched)
    RunFolder(submission.folder).set_state("finished")
    registered = read_run_model(submission.folder)
    assert list(registered.forms) == ["managed"]
    assert registered.provenance.base == SOURCE
    assert target.remote_storage(submission)[0][1] > 0
    assert target.delete(submission) == []
    assert target.remote_storage(submission)[0][1] == 0


def test_stop_ends_without_a_model(managed: ManagedAccount, job: Callable[..., Path]) -> None:
    target = managed.bedrock_target
    submission, _ = submit_job(job(SOURCE, "stopped"), target)
    assert "keeps no checkpoint" in target.stop(submission)
    assert target.status(submission).state == "stopping"
    managed.clock.advance(400)
    assert target.status(submission).state == "stopped"
    assert target.fetch(submission, archive=False, checkpoints=False) == []


def test_failure_says_the_reason_of_the_service(
    managed: ManagedAccount, job: Callable[..., Path]
) -> None:
    target = managed.bedrock_target
    managed.bedrock.faults.failed_customizations.append("Input tokens exceed the quota")
    submission, _ = submit_job(job(SOURCE, "failed"), target)
    managed.clock.advance(400)
    status = target.status(submission)
    assert (status.state, status.detail) == ("training failed", "Input tokens exceed the quota")


def test_lost_reply_does_not_start_a_second_job(
    managed: ManagedAccount, job: Callable[..., Path]
) -> None:
    managed.bedrock.control.errors.lose_replies("CreateModelCustomizationJob")
    submission, _ = submit_job(job(SOURCE, "lost"), managed.bedrock_target)
    name = submission.latest.name
    jobs = managed.session.client("bedrock").list_model_customization_jobs(nameContains=name)
    assert len(jobs["modelCustomizationJobSummaries"]) == 1


def test_job_of_another_account_is_not_reported_as_deleted(
    managed: ManagedAccount, job: Callable[..., Path]
) -> None:
    submission, _ = submit_job(job(SOURCE, "elsewhere"), managed.bedrock_target)
    arn = "arn:aws:bedrock:us-east-1:999999999999:model-customization-job/gone"
    elsewhere = replace(submission, attempts=(Attempt("temper-dev-gone", arn),))
    with pytest.raises(LaunchError, match="is in account 999999999999"):
        managed.bedrock_target.status(elsewhere)


def test_runs_of_everyone_are_listed_and_adopted(
    managed: ManagedAccount, job: Callable[..., Path], tmp_path: Path
) -> None:
    target = managed.bedrock_target
    submission, _ = submit_job(job(SOURCE, "shared"), target)
    (run,) = [run for run in target.list_runs(None).runs if run.run == submission.run]
    assert run.creator == submission.creator
    adopted, missing = adopt(run, target, tmp_path / "elsewhere")
    assert "keeps no job file" in missing[0]
    record = read_submission(adopted.folder)
    assert record is not None
    assert target.status(record).state == "training"
    with pytest.raises(LaunchError, match="resumes no job"):
        target.quote_restart(record)


def test_what_bedrock_would_ignore_is_refused_at_once(
    managed: ManagedAccount, job: Callable[..., Path]
) -> None:
    path = job(
        SOURCE,
        adapter__r=8,
        train__optimizer="sgd",
        train__num_train_epochs=9,
        data__packing=True,
        evaluate__every="10 steps",
    )
    with pytest.raises(JobError) as caught:
        submit_job(path, managed.bedrock_target)
    assert sorted(problem.path for problem in caught.value.problems) == [
        "adapter.r",
        "data.packing",
        "evaluate.every",
        "train.num_train_epochs",
        "train.optimizer",
    ]
    assert "takes 1 to 5" in str(caught.value)
    assert not (path.parent / "runs").exists()


def test_budget_below_the_price_is_refused(
    managed: ManagedAccount, job: Callable[..., Path]
) -> None:
    with pytest.raises(JobError, match=r"resources.max_cost: the job can cost"):
        submit_job(job(SOURCE, resources__max_cost="0.0001 USD"), managed.bedrock_target)


def test_rows_that_bedrock_would_reject_are_named(
    managed: ManagedAccount, job: Callable[..., Path], rows: Path
) -> None:
    with rows.open("a") as file:
        file.write(json.dumps({"prompt": "User: hello", "completion": "Hello."}) + "\n")
    with pytest.raises(JobError, match=r"rows.jsonl:121: a prompt has the reserved word User:"):
        submit_job(job(SOURCE), managed.bedrock_target)
    submission, lines = submit_job(
        job(SOURCE, "skipping", data__on_error="skip"), managed.bedrock_target
    )
    assert "120 rows, 1 left out" in "\n".join(lines)
    assert submission.latest.handle
