"""Submit, follow, stop, resume and fetch on SageMaker, against an emulated account.

The emulated training service executes each request, with a container that only counts steps.
`tests/launch` really trains.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from emulator.environment import EmulatedEnvironment
from launch.aws.create_training_job import checkpoint_uri, output_uri
from launch.aws.s3 import S3Uri
from launch.aws.volume_size import volume_problems
from launch.errors import LaunchError, NotConfirmed
from launch.prepared_job import PreparedJob
from launch.submission import Attempt, Submission, now, read_submission
from launch.submit import SubmitRequest, submit
from launch.targets.sagemaker import SageMakerTarget
from tests.unit.launch.conftest import await_end, boto, run_to_end, steps_of, until
from training.config import load_job
from training.errors import JobError


def test_run_to_completion_and_fetch(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    lines: list[str] = []
    submission = submit(make_request(), target, lines.append)
    assert "1 × ml.g5.2xlarge, us-east-1 (dev)" in lines[0]
    assert target.status(submission).state == "training"
    lines = list(target.logs(submission, follow=True))
    assert [line.split()[1] for line in lines] == [f"{n}/20" for n in range(1, 21)]
    status = target.status(submission)
    assert (status.state, status.step, status.loss) == ("not deployed", 20, 0.2)
    # Compiled for Trainium: of use to a resumed job only.
    graphs = f"{checkpoint_uri(submission.run, target.platform)}neuron-graphs/graph.neff"
    boto(emulated, "s3").put_object(
        Bucket=S3Uri.parse(graphs).bucket, Key=S3Uri.parse(graphs).key, Body=b"graph"
    )
    fetched = target.fetch(submission, archive=False, checkpoints=False)
    assert {p.relative_to(submission.folder).as_posix() for p in fetched} == {
        "model",
        "report.html",
    }
    assert json.loads((submission.folder / "model/counted.json").read_text()) == {"steps": 20}
    assert not list(submission.folder.rglob(".*fetching"))
    target.fetch(submission, archive=True, checkpoints=True)
    assert (submission.folder / "model.tar.gz").exists()
    assert (submission.folder / "checkpoints/20.json").exists()


def test_container_job_has_no_local_paths(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
    tmp_path: Path,
) -> None:
    submission = submit(make_request(steps=1), target, print)
    bucket = target.platform["buckets/runs"]
    key = f"runs/{submission.run}/job/job.yaml"
    text = boto(emulated, "s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    assert str(tmp_path) not in text
    assert "/opt/ml/input/data/train/rows.jsonl" in text
    assert await_end(target, submission) == "not deployed"


def test_model_is_stored_as_files_that_can_be_read_in_place(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    submission, job = run_to_end(target, make_request(steps=1))
    uri = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert uri.endswith("/output/model/")
    objects = [str(address) for address, _ in target.store.list(S3Uri.parse(uri))]
    assert objects == [f"{uri}counted.json"]
    assert any(size and uri.startswith(name) for name, size in target.remote_storage(submission))
    assert not target.delete(submission)
    assert not list(target.store.list(S3Uri.parse(uri)))


def test_archive_of_an_earlier_job_is_still_fetched(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    submission, job = run_to_end(target, make_request(steps=1, output_compression="gzip"))
    assert job["ModelArtifacts"]["S3ModelArtifacts"].endswith("/output/model.tar.gz")
    assert submission.folder / "model" in target.fetch(submission, archive=False, checkpoints=False)
    assert json.loads((submission.folder / "model/counted.json").read_text()) == {"steps": 1}


def test_model_with_a_planted_name_is_refused(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    submission, job = run_to_end(target, make_request(steps=1))
    uri = S3Uri.parse(job["ModelArtifacts"]["S3ModelArtifacts"])
    boto(emulated, "s3").put_object(
        Bucket=uri.bucket, Key=f"{uri.key}../../planted.json", Body=b"{}"
    )
    with pytest.raises(LaunchError, match="leads out of"):
        target.fetch(submission, archive=False, checkpoints=False)
    assert not (submission.folder / "model").exists()
    assert not list(submission.folder.parent.rglob("planted.json"))


def test_model_in_s3_is_planned_and_read_in_place(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
    tmp_path: Path,
) -> None:
    request, bucket = make_request(steps=1), target.platform["buckets/data"]
    boto(emulated, "s3").upload_file(
        str(tmp_path / "shape/config.json"), bucket, "models/base/config.json"
    )
    source = f"s3://{bucket}/models/base"
    in_s3 = dataclasses.replace(request, overrides=f"model.source={source}")
    submission = submit(in_s3, target, print)
    sent = emulated.service.job(submission.latest.name).request
    channels = {
        c["ChannelName"]: c["DataSource"]["S3DataSource"]["S3Uri"] for c in sent["InputDataConfig"]
    }
    assert channels["model"] == f"{source}/"
    assert await_end(target, submission) == "not deployed"
    missing = dataclasses.replace(request, overrides=f"model.source={source}-2", fresh=True)
    with pytest.raises(
        JobError, match=r"its config.json could not be read: there is no such object"
    ):
        submit(missing, target, print)


def test_registry_that_does_not_exist_is_named(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    with pytest.raises(JobError, match="this environment has no model registry"):
        submit(make_request(register_model=True), target, print)
    assert "CreateTrainingJob" not in emulated.service.calls


def test_volume_of_an_instance_without_local_disks(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
    tmp_path: Path,
) -> None:
    request = make_request(instance="ml.m5.2xlarge", volume_gib=77)
    job = load_job(request.job)
    submission = Submission(tmp_path, "count/1", "sagemaker", "dev", "", now(), (Attempt("c-1"),))
    plan: Any = SimpleNamespace(disk_gib={"total": 40.0})
    prepared = PreparedJob(job, plan, "job.yaml")
    assert not list(volume_problems(prepared))
    assert target.request(submission, prepared)["ResourceConfig"]["VolumeSizeInGB"] == 77
    plan.disk_gib["total"] = 100.0
    (problem,) = volume_problems(prepared)
    assert problem.message == "is less than the 100 GiB that the run writes"
    assert "140 GiB are then requested" in problem.fix


@pytest.mark.slow
def test_same_command_attaches(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    request = make_request(steps=500)
    first, lines = submit(request, target, print), []
    second = submit(request, target, lines.append)
    assert second == first
    assert emulated.service.calls.count("CreateTrainingJob") == 1
    assert "is training already" in lines[0]
    target.stop(first)
    assert await_end(target, first) == "stopped"


@pytest.mark.slow
def test_stop_and_resume(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    request = make_request(steps=200)
    submission = submit(request, target, print)
    until(lambda: (target.status(submission).step or 0) > 7)
    assert "two minutes" in target.stop(submission)
    assert target.status(submission).state in ("stopping", "stopped")
    assert await_end(target, submission) == "stopped"
    assert "already" in target.stop(submission)
    again = submit(request, target, print)
    assert again.run == submission.run
    assert again.latest.name == f"{submission.latest.name}-2"
    assert await_end(target, again) == "not deployed"
    (first,), (second,) = (steps_of(emulated, attempt.name) for attempt in again.attempts)
    assert first[-1] + 1 == second[0], "it resumes from the checkpoint that SIGTERM saved"
    assert second[-1] == 200


@pytest.mark.slow
@pytest.mark.parametrize("event", ["interrupt", "lose"])
def test_interruption_repeats_at_most_one_interval(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
    event: Any,
) -> None:
    submission = submit(make_request(steps=150, spot=True, max_runtime="1h"), target, print)
    name = submission.latest.name
    until(lambda: (target.status(submission).step or 0) > 12)
    emulated.service.trigger(name, event)
    assert await_end(target, submission) == "not deployed"
    first, second = steps_of(emulated, name)
    # 5 steps between checkpoints, and the steps (20 ms each) by which S3 lagged behind.
    slack = 0 if event == "interrupt" else 5 + 25
    assert 0 <= first[-1] + 1 - second[0] <= slack
    assert second[0] > 1, "it resumed, and did not start over"
    assert second[-1] == 150


def test_lost_reply_creates_no_second_job(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    """The job is created, the reply is lost, and boto3 retries."""
    emulated.service.errors.lose_replies("CreateTrainingJob", 2)
    submission = submit(make_request(steps=5), target, print)
    assert submission.latest.handle.endswith(submission.latest.name)
    assert emulated.service.calls.count("CreateTrainingJob") == 3
    assert list(emulated.service._jobs) == [submission.latest.name]
    assert await_end(target, submission) == "not deployed"


@pytest.mark.slow
def test_rerun_after_lost_network(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The network fails after the job was created; the same command finds it by its name."""
    request = make_request(steps=300)
    create = target.jobs.create

    def lose_network(request: dict[str, Any]) -> str:
        create(request)
        raise LaunchError("AWS could not be reached")

    monkeypatch.setattr(target.jobs, "create", lose_network)
    with pytest.raises(LaunchError, match="could not be reached"):
        submit(request, target, print)
    (folder,) = (p for p in (request.runs / "count").iterdir() if p.is_dir())
    record = read_submission(folder)
    assert record is not None and record.latest.handle == ""
    monkeypatch.undo()
    fresh = SageMakerTarget(target.account)
    submission = submit(request, fresh, print)
    assert submission.run == record.run
    assert list(emulated.service._jobs) == [record.latest.name]
    fresh.stop(submission)
    await_end(fresh, submission)


def test_failed_job(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    submission = submit(make_request(name="broken"), target, print)
    assert await_end(target, submission) == "training failed"
    assert target.status(submission).detail == (
        "AlgorithmError: guard: loss is nan at step 3, exit code: 4"
    )
    with_failure = target.fetch(submission, archive=False, checkpoints=False)
    assert all(p.name != "model" for p in with_failure)


def test_model_that_exceeds_a_safety_limit_is_kept(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    submission = submit(make_request(name="unsafe"), target, print)
    assert await_end(target, submission) == "training failed"
    assert target.status(submission).detail == (
        "AlgorithmError: the trained model exceeds a limit, exit code: 5"
    )
    target.fetch(submission, archive=False, checkpoints=False)
    assert json.loads((submission.folder / "model/counted.json").read_text()) == {"steps": 20}
    output = S3Uri.parse(output_uri(submission.run, target.platform)) / submission.latest.name
    uploaded = {str(uri).removeprefix(f"{output}/output/") for uri, _ in target.store.list(output)}
    assert uploaded == {"model/counted.json", "data/safety/counted.json"}


@pytest.mark.slow
def test_state_changes_are_published(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    """A rule like the platform's own matches the end of a job."""
    events, sqs = boto(emulated, "events"), boto(emulated, "sqs")
    queue = sqs.create_queue(QueueName="told")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    pattern = {
        "source": ["aws.sagemaker"],
        "detail-type": ["SageMaker Training Job State Change"],
        "detail": {"TrainingJobStatus": ["Completed", "Failed", "Stopped"]},
    }
    events.put_rule(Name="ended", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="ended", Targets=[{"Id": "q", "Arn": arn["Attributes"]["QueueArn"]}])
    submission = submit(make_request(steps=3), target, print)
    await_end(target, submission)
    found: list[Any] = []

    def came() -> bool:
        found.extend(sqs.receive_message(QueueUrl=queue).get("Messages", []))
        return bool(found)

    until(came)
    detail = json.loads(found[0]["Body"])["detail"]
    assert detail["TrainingJobName"] == submission.latest.name
    assert detail["TrainingJobStatus"] == "Completed"


# --- bad input --------------------------------------------------------------------------------


def assert_nothing_happened(emulated: EmulatedEnvironment, runs: Path) -> None:
    assert not emulated.service._jobs
    assert not [p for p in runs.rglob("*") if p.is_file() and p.name != "index.sqlite"]


def test_not_confirmed(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("YES")
    request = make_request()
    with pytest.raises(NotConfirmed, match="YES=1"):
        submit(request, target, print)
    assert_nothing_happened(emulated, request.runs)


def test_quota_of_zero(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    emulated.service.faults.quotas["ml.g5.2xlarge"] = 0
    request = make_request()
    with pytest.raises(LaunchError, match=r"ml\.g5\.2xlarge for training job usage") as caught:
        submit(request, target, print)
    assert "Service Quotas" in str(caught.value)
    assert_nothing_happened(emulated, request.runs)


def test_empty_s3_address(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    bucket = target.platform["buckets/data"]
    request = dataclasses.replace(make_request(), overrides=f"data.train=s3://{bucket}/no/such")
    with pytest.raises(LaunchError, match=f"s3://{bucket}/no/such/ contains nothing"):
        submit(request, target, print)
    assert_nothing_happened(emulated, request.runs)


def test_no_instance(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    request = dataclasses.replace(make_request(), overrides="resources={}")
    with pytest.raises(JobError, match=r"resources.instance: is required with --target sagemaker"):
        submit(request, target, print)


@pytest.mark.slow
def test_name_is_taken(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = submit(make_request(steps=500), target, print)
    monkeypatch.setattr("launch.submit.attempt_name", lambda run, number, prefix: first.latest.name)
    request = make_request(steps=5, name="other")
    with pytest.raises(LaunchError, match="taken by another training job"):
        submit(request, target, print)
    assert list(emulated.service._jobs) == [first.latest.name]
    target.stop(first)
    await_end(target, first)


def test_stop_during_upload(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = make_request()
    put = target.store.upload_artifact

    def stopped_meanwhile(*arguments: Any) -> Any:
        (folder,) = (request.runs / "count").iterdir()
        record = read_submission(folder)
        assert record is not None
        assert "will not be" in SageMakerTarget(target.account).stop(record)
        return put(*arguments)

    monkeypatch.setattr(target.store, "upload_artifact", stopped_meanwhile)
    with pytest.raises(LaunchError, match="stopped before it was submitted"):
        submit(request, target, print)
    assert not emulated.service._jobs


def judged(wish: SubmitRequest, region: str) -> SubmitRequest:
    """Return the request with two judges: one with an API key, and one on Bedrock."""
    document = yaml.safe_load(wish.job.read_text())
    away = {"kind": "openai", "url": "https://judge.example/v1", "model": "m"}
    bedrock = {"kind": "bedrock", "region": region, "model": "vendor.model-v1:0"}
    rewards = [{**away, "api_key_env": "JUDGE_KEY"}, bedrock]
    document["method"] = {
        "kind": "grpo",
        "reward": [{"kind": "judge", "judge": judge} for judge in rewards],
        "num_generations": 2,
    }
    document["data"]["prompts"] = document["data"].pop("train") and ["a", "b"]
    document["train"]["global_batch_size"] = 2
    wish.job.write_text(yaml.safe_dump(document))
    return wish


def test_judges_the_environment_rejects(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    request = judged(make_request(), "eu-west-1")
    with pytest.raises(JobError) as caught:
        submit(request, target, print)
    lines = str(caught.value)
    for words in ("JUDGE_KEY", "storage.keys", "us-east-1", "vendor.model-v1:0", "bedrock.judges"):
        assert words in lines
    assert_nothing_happened(emulated, request.runs)


def test_judges_the_environment_allows(
    emulated: EmulatedEnvironment,
    target: SageMakerTarget,
    make_request: Callable[..., SubmitRequest],
) -> None:
    given = {
        "secrets/keys/JUDGE_KEY": "temper-dev/keys/JUDGE_KEY",
        "bedrock/judges": "other,vendor.model-v1:0",
    }
    target.platform = dataclasses.replace(  # type: ignore[misc]  # read once, and kept
        target.platform, values={**target.platform.values, **given}
    )
    submission = submit(judged(make_request(steps=1), "us-east-1"), target, print)
    request = target.jobs.find(submission.latest.name) or {}
    assert json.loads(request["Environment"]["TEMPER_SECRETS"]) == {
        "JUDGE_KEY": "temper-dev/keys/JUDGE_KEY"
    }
    assert request["EnableNetworkIsolation"] is False
    target.stop(submission)
    await_end(target, submission)
