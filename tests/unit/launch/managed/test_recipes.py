"""Recipes of SageMaker HyperPod as training jobs: the SDK's request, and runs on the emulator."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from emulator.botocore_schema import validation_errors
from emulator.hub import LORA_PARAMETERS, RECIPE_TEMPLATE, recipe_image
from launch.errors import LaunchError, NotConfirmed
from launch.managed.data_files import ManagedData
from launch.managed.hub import HubModel
from launch.managed.jobs import HubJob
from launch.managed.recipes import RecipeInputs, recipe_request, recipe_values, render_recipe
from launch.managed.requests import DataAddresses
from launch.submission import Attempt, Submission
from planning.managed.plan import managed_plan
from planning.managed.run import read_managed_run
from registry.run_model import read_run_model
from tests.factories import write_jsonl
from tests.unit.launch.fake_accounts import MLFLOW, platform
from tests.unit.launch.managed.conftest import GATED, QWEN, ManagedAccount, submit_job
from tests.unit.launch.managed.record_sdk_requests import DATA, RECIPE
from training.config import load_job
from training.errors import JobError
from training.run_folder import RunFolder

SDK = Path(__file__).with_name("sdk_requests")
P5 = {"resources__instance": "ml.p5.48xlarge", "resources__count": 2}


def sdk_job(path: Path) -> HubJob:
    """Return the job of a file with the hub of the recorded requests."""
    run = read_managed_run(load_job(path), "recipes", specification=LORA_PARAMETERS)
    document = {"TrainingArtifactUri": f"s3://hub/weights/{QWEN}/"}
    return HubJob(
        run,
        ManagedData(("{}",), ("{}",)),
        HubModel(QWEN, f"arn:aws:sagemaker:us-east-1:aws:hub-content/Hub/Model/{QWEN}/1", document),
        {"SmtjImageUri": recipe_image("us-east-1")},
        LORA_PARAMETERS,
        "4K",
    )


def test_request_and_recipe_equal_those_of_the_sdk(job: Callable[..., Path]) -> None:
    made = sdk_job(job(f"jumpstart:{QWEN}", data__max_length=1024, **P5))
    attempts = (Attempt("temper-dev-support-1"),)
    run = Submission(Path(), "support/1", "recipes", "dev", "anna", "2026-11-29", attempts)
    values = platform(**MLFLOW)
    data = DataAddresses(f"{DATA}train.jsonl", f"{DATA}validation.jsonl")
    inputs = RecipeInputs(data, RECIPE, f"s3://hub/weights/{QWEN}/", 200)
    ours = recipe_request(run, made, inputs, values)
    assert validation_errors("sagemaker", "CreateTrainingJob", ours) == []
    # The SDK does not encrypt the model of a recipe, and leaves the traffic to the default.
    assert ours["OutputDataConfig"].pop("KmsKeyId")
    assert ours.pop("EnableInterContainerTrafficEncryption") is False
    del ours["TrainingJobName"], ours["Tags"]
    assert ours == json.loads((SDK / "recipe.json").read_text())
    template = RECIPE_TEMPLATE.replace("TRAINER", "sft")
    recipe = yaml.safe_load(render_recipe(template, recipe_values(made, run, values)))
    recorded = yaml.safe_load((SDK / "recipe.yaml").read_text())
    assert recipe["run"].pop("name") == "temper-dev-support-1"
    assert recorded["run"].pop("name") == LORA_PARAMETERS["name"]["default"]
    assert recipe == recorded


def test_values_keep_their_types_in_a_recipe() -> None:
    template = "a: '{{number}}'\nb: {{flag}}\nc: \"{{text}}/x\"\nd:\n- {{number}}\ne: '{{none}}'\n"
    values = {"number": 1e-5, "flag": True, "text": "on", "none": None}
    found = yaml.safe_load(render_recipe(template, values))
    assert found == {"a": 1e-5, "b": True, "c": "on/x", "d": [1e-5], "e": None}
    with pytest.raises(LaunchError, match="parameters without a value: secret"):
        render_recipe("a: '{{secret}}'", values)


def end_of(target: Any, submission: Submission) -> str:
    """Wait for the end of a job and return its state, with the reason of a failure."""
    end = time.monotonic() + 60
    while not target.status(submission).is_over:
        assert time.monotonic() < end
        time.sleep(0.05)
    status = target.status(submission)
    return f"{status.state}: {status.detail}" if "failed" in status.state else str(status.state)


def test_run_from_submission_to_its_weights(
    managed: ManagedAccount, job: Callable[..., Path]
) -> None:
    target = managed.recipes_target
    path = job("Qwen/Qwen3-0.6B", "recipe", data__max_length=4096, **P5)
    submission, lines = submit_job(path, target)
    shown = "\n".join(lines)
    assert f"trains {QWEN} (SFT)" in shown
    assert "up to" in shown
    assert "on 2 x ml.p5.48xlarge" in shown
    assert "holds out 10% of the rows" in shown
    assert end_of(target, submission) == "not deployed"
    sagemaker = managed.session.client("sagemaker")
    sent = sagemaker.describe_training_job(TrainingJobName=submission.latest.name)
    assert sent["ResourceConfig"]["VolumeSizeInGB"] >= 50
    assert target.fetch(submission, archive=False, checkpoints=False)
    assert (submission.folder / "model/model.safetensors").is_file()
    assert (submission.folder / "model/SHA256SUMS").is_file()
    RunFolder(submission.folder).set_state("finished")
    assert "safetensors" in read_run_model(submission.folder).forms
    (run,) = [run for run in target.list_runs(None).runs if run.run == submission.run]
    assert run.target == "recipes"
    with pytest.raises(LaunchError, match="resumes no job"):
        target.quote_restart(submission)
    assert target.delete(submission) == []


def test_preferences_license_and_stop(
    managed: ManagedAccount, job: Callable[..., Path], tmp_path: Path
) -> None:
    pairs = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(20)]
    data = write_jsonl(tmp_path / "pairs.jsonl", pairs)
    target = managed.recipes_target
    keys = {**P5, "data__train": str(data), "data__max_length": 4096}
    path = job(f"jumpstart:{GATED}", "pairs", method={"kind": "dpo"}, **keys)
    with pytest.raises(NotConfirmed, match="--accept-eula"):
        submit_job(path, target)
    submission, _ = submit_job(path, target, accept_eula=True)
    assert end_of(target, submission) == "not deployed"
    path = job(f"jumpstart:{QWEN}", "halted", data__max_length=4096, **P5)
    submission, _ = submit_job(path, target)
    assert "billed until then" in target.stop(submission)
    assert end_of(target, submission) == "stopped"


def test_reinforcement_calls_the_packed_rewards(
    managed: ManagedAccount, job: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [{"prompt": f"What is {n} + 1?", "reference": str(n + 1)} for n in range(20)]
    data = write_jsonl(tmp_path / "questions.jsonl", rows)
    method = {"kind": "grpo", "reward": {"kind": "numeric_answer"}}
    keys = {**P5, "data__train": str(data)}
    target = managed.recipes_target
    submission, _ = submit_job(job(f"jumpstart:{QWEN}", "verified", method=method, **keys), target)
    bucket = target.platform["buckets/runs"]
    key = f"runs/{submission.run}/recipe/recipe.yaml"
    body = managed.session.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    function = yaml.safe_load(body)["run"]["reward_lambda_arn"]
    assert managed.session.client("lambda").get_function(FunctionName=function)
    target.stop(submission)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({}, r"resources.instance: is required; the recipe runs on ml.g5.48xlarge, ml.p5"),
        ({"resources__instance": "ml.g5.xlarge"}, "does not run on it"),
        ({**P5, "resources__spot": True}, r"resources.spot: cannot be set"),
        ({**P5, "train__optimizer": "sgd"}, r"train.optimizer: cannot be set"),
        ({**P5, "resources__max_cost": "100 USD"}, r"set resources.max_runtime to \d+ min or less"),
    ],
)
def test_job_that_a_recipe_cannot_run(
    managed: ManagedAccount, job: Callable[..., Path], keys: dict[str, Any], reason: str
) -> None:
    path = job(f"jumpstart:{QWEN}", "refused", data__max_length=4096, **keys)
    with pytest.raises(JobError, match=reason):
        submit_job(path, managed.recipes_target)


def test_recipe_without_weights_or_image_is_refused(
    managed: ManagedAccount, job: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = managed.sagemaker.hub
    document = hub._document

    def bare(model: Any) -> dict[str, Any]:
        found = document(model)
        del found["TrainingArtifactUri"]
        for recipe in found["RecipeCollection"]:
            del recipe["SmtjImageUri"]
        return found

    monkeypatch.setattr(hub, "_document", bare)
    path = job(f"jumpstart:{QWEN}", "bare", data__max_length=4096, **P5)
    with pytest.raises(JobError) as caught:
        submit_job(path, managed.recipes_target)
    assert "names no image" in str(caught.value)
    assert "has no weights" in str(caught.value)


def test_plan_prices_the_instances(job: Callable[..., Path]) -> None:
    path = job("Qwen/Qwen3-8B", "priced", resources__max_runtime="2h", **P5)
    (quote,) = [one for one in managed_plan(load_job(path)).managed if one.provider == "recipes"]
    assert quote.refused == ()
    assert quote.cost_usd is not None
    assert quote.cost_usd.high > 50
    assert "for 2 h at most" in quote.price
    path = job("Qwen/Qwen3-8B", "unpriced")
    (quote,) = [one for one in managed_plan(load_job(path)).managed if one.provider == "recipes"]
    assert quote.cost_usd is None
