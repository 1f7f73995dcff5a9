"""Serverless customization on SageMaker, and our training on the weights of its hub."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.errors import LaunchError, NotConfirmed
from launch.submission import Submission
from launch.targets.sagemaker import SageMakerTarget
from tests.factories import write_jsonl
from tests.unit.launch.managed.conftest import GATED, QWEN, ManagedAccount, submit_job
from training.errors import JobError


def end_of(target: Any, submission: Submission) -> str:
    """Wait for the end of a job and return its state."""
    end = time.monotonic() + 60
    while not target.status(submission).is_over:
        assert time.monotonic() < end
        time.sleep(0.05)
    return str(target.status(submission).state)


def test_run_from_submission_to_its_weights(
    managed: ManagedAccount, job: Callable[..., Path]
) -> None:
    target = managed.serverless_target
    # The same file as on a machine of one's own, with the model's name on the Hub.
    path = job("Qwen/Qwen3-0.6B", data__max_length=4096, resources__instance="ml.g5.2xlarge")
    submission, lines = submit_job(path, target)
    shown = "\n".join(lines)
    assert f"trains {QWEN} (SFT)" in shown
    assert "an unknown cost" in shown
    assert end_of(target, submission) == "not deployed"
    assert "tokens are billed" in target.status(submission).detail
    sent = managed.session.client("sagemaker").describe_training_job(
        TrainingJobName=submission.latest.name
    )
    assert sent["HyperParameters"]["max_epochs"] == "2"
    assert sent["HyperParameters"]["lora_rank"] == "16"
    assert sent["ServerlessJobConfig"]["SequenceLength"] == "4K"
    fetched = target.fetch(submission, archive=False, checkpoints=False)
    assert fetched == [submission.folder / "model"]
    assert (submission.folder / "model/SHA256SUMS").is_file()
    (run,) = [run for run in target.list_runs(None).runs if run.run == submission.run]
    assert run.target == "sagemaker-serverless"
    with pytest.raises(LaunchError, match="resumes no job"):
        target.quote_restart(submission)


def test_nova_leaves_a_package_and_no_weights(
    managed: ManagedAccount, job: Callable[..., Path]
) -> None:
    target = managed.serverless_target
    submission, _ = submit_job(
        job("jumpstart:nova-textgeneration-micro", "nova", data__max_length=4096), target
    )
    assert end_of(target, submission) == "not deployed"
    target.fetch(submission, archive=False, checkpoints=False)
    model = json.loads((submission.folder / "model/managed_model.json").read_text())
    assert ":model-package/temper-dev-models/" in model["model_package"]


def test_preferences_and_their_format(
    managed: ManagedAccount, job: Callable[..., Path], tmp_path: Path
) -> None:
    pairs = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(20)]
    data = write_jsonl(tmp_path / "pairs.jsonl", pairs)
    target = managed.serverless_target
    path = job(f"jumpstart:{QWEN}", "pairs", method={"kind": "dpo"}, data__train=str(data))
    submission, _ = submit_job(path, target)
    assert end_of(target, submission) == "not deployed"


def test_license_is_never_accepted_unasked(
    managed: ManagedAccount, job: Callable[..., Path]
) -> None:
    target = managed.serverless_target
    path = job("meta-llama/Llama-3.2-1B-Instruct", "gated")
    with pytest.raises(NotConfirmed, match="--accept-eula"):  # although YES=1 is set
        submit_job(path, target)
    submission, _ = submit_job(path, target, accept_eula=True)
    assert end_of(target, submission) == "not deployed"
    calls = managed.session.client("sagemaker").describe_training_job(
        TrainingJobName=submission.latest.name
    )
    assert calls["ServerlessJobConfig"]["AcceptEula"] is True
    assert GATED in calls["ServerlessJobConfig"]["BaseModelArn"]


def test_values_outside_of_the_recipe_are_refused_at_once(
    managed: ManagedAccount, job: Callable[..., Path]
) -> None:
    path = job(
        f"jumpstart:{QWEN}",
        "outside",
        train__global_batch_size=20,
        adapter__r=12,
        adapter__dropout=0.1,
        train__learning_rate=1.0,
        train__compile=True,
    )
    with pytest.raises(JobError) as caught:
        submit_job(path, managed.serverless_target)
    # Problems of the job file are reported first, before the hub is asked for the recipe.
    assert [problem.path for problem in caught.value.problems] == ["train.compile"]
    path = job(
        f"jumpstart:{QWEN}",
        "outside",
        train__global_batch_size=20,
        adapter__r=12,
        adapter__dropout=0.1,
        train__learning_rate=1.0,
    )
    with pytest.raises(JobError) as caught:
        submit_job(path, managed.serverless_target)
    assert sorted(problem.path for problem in caught.value.problems) == [
        "adapter.dropout",
        "adapter.r",
        "train.global_batch_size",
        "train.learning_rate",
    ]
    assert "one of 8, 16, 32, 64" in str(caught.value)


def test_rows_longer_than_every_recipe_are_refused(
    managed: ManagedAccount, job: Callable[..., Path]
) -> None:
    with pytest.raises(JobError, match="recipes for 4K tokens"):
        submit_job(job(f"jumpstart:{QWEN}", data__max_length=8192), managed.serverless_target)


def test_stopped_job(managed: ManagedAccount, job: Callable[..., Path]) -> None:
    target = managed.serverless_target
    submission, _ = submit_job(job(f"jumpstart:{QWEN}", "halted"), target)
    assert "bills the tokens" in target.stop(submission)
    assert end_of(target, submission) == "stopped"


def test_jumpstart_reads_the_weights_of_the_hub(
    managed: ManagedAccount, job: Callable[..., Path]
) -> None:
    target = managed.jumpstart_target
    path = job(f"jumpstart:{GATED}", resources__instance="ml.g5.2xlarge")
    with pytest.raises(NotConfirmed, match="license"):
        submit_job(path, target)
    submission, _ = submit_job(path, target, accept_eula=True)
    sent = managed.session.client("sagemaker").describe_training_job(
        TrainingJobName=submission.latest.name
    )
    channels = [one["DataSource"]["S3DataSource"] for one in sent["InputDataConfig"]]
    (weights,) = [one for one in channels if "HubAccessConfig" in one]
    assert weights["S3Uri"].endswith(f"/weights/{GATED}/")
    assert weights["ModelAccessConfig"] == {"AcceptEula": True}
    target.stop(submission)


def test_models_of_aws_need_a_target_that_has_them(
    managed: ManagedAccount, job: Callable[..., Path]
) -> None:
    path = job("bedrock:amazon.nova-micro-v1:0", resources__instance="ml.g5.2xlarge")
    with pytest.raises(JobError, match="--target bedrock-customization"):
        submit_job(path, SageMakerTarget(managed.session))
