"""Requests of managed customization: golden files, the SDK's requests, botocore's description."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.botocore_schema import validation_errors
from emulator.hub import LORA_PARAMETERS
from launch.managed.requests import (
    DataAddresses,
    RecipeChoice,
    bedrock_request,
    serverless_request,
)
from launch.submission import Attempt, Submission, TargetName
from planning.managed.run import ManagedRun, read_managed_run
from tests.unit.launch.fake_accounts import MLFLOW, platform
from tests.unit.launch.managed.conftest import MICRO, QWEN
from training.config import load_job

SDK = Path(__file__).with_name("sdk_requests")
GOLDEN = Path(__file__).with_name("requests")
DATA = "s3://temper-dev-data-123456789012-us-east-1/uploads/0123/"
HUB = "arn:aws:sagemaker:us-east-1:aws:hub-content/SageMakerPublicHub"
ROLE = {"roles/bedrock-customization": "arn:aws:iam::123456789012:role/temper-dev-customization"}
GRADER = "arn:aws:lambda:us-east-1:123456789012:function:temper-dev-grader"


def submission(target: TargetName) -> Submission:
    """Return a run that was not sent yet."""
    attempts = (Attempt("temper-dev-support-1"),)
    return Submission(Path(), "support/1", target, "dev", "anna", "2026-11-29", attempts)


def read(path: Path, provider: str, **more: Any) -> ManagedRun:
    """Return the job of a file as a provider runs it."""
    return read_managed_run(load_job(path), provider, **more)


@pytest.mark.parametrize(
    ("name", "model", "method"),
    [("sft", QWEN, "sft"), ("sft-nova", "nova-textgeneration-micro", "sft"), ("dpo", QWEN, "dpo")],
)
def test_serverless_request_equals_that_of_the_sdk(
    job: Callable[..., Path], name: str, model: str, method: str
) -> None:
    path = job(f"jumpstart:{model}", method__kind=method)
    run = read(path, "sagemaker-serverless", specification=LORA_PARAMETERS)
    data = DataAddresses(f"{DATA}train.jsonl", f"{DATA}validation.jsonl" * (name == "sft"))
    ours = serverless_request(
        submission("sagemaker-serverless"),
        run,
        data,
        platform(**MLFLOW),
        RecipeChoice(f"{HUB}/Model/{model}/1.0.0", LORA_PARAMETERS, sequence_length="4K"),
    )
    assert validation_errors("sagemaker", "CreateTrainingJob", ours) == []
    del ours["TrainingJobName"], ours["Tags"]
    assert ours == json.loads((SDK / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ["fine-tuning", "llama", "distillation", "reinforcement"])
def test_bedrock_request_is_the_golden_one(
    job: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    run = read(_bedrock_job(job, tmp_path, name), "bedrock-customization")
    request = bedrock_request(
        submission("bedrock-customization"),
        run,
        DataAddresses(f"{DATA}train.jsonl", f"{DATA}validation.jsonl" * (name == "fine-tuning")),
        platform(**ROLE),
        run.job.resources.grader,
    )
    assert validation_errors("bedrock", "CreateModelCustomizationJob", request) == []
    assert request == json.loads((GOLDEN / f"{name}.json").read_text())


def _bedrock_job(job: Callable[..., Path], folder: Path, name: str) -> Path:
    if name == "fine-tuning":
        return job(f"bedrock:{MICRO}", train__warmup="20 steps")
    if name == "llama":
        return job("meta-llama/Llama-3.1-8B-Instruct", train__global_batch_size=1)
    if name == "reinforcement":
        method = {"kind": "grpo", "reward": {"kind": "numeric_answer"}, "num_generations": 4}
        return job(
            "bedrock:amazon.nova-2-lite-v1:0",
            method=method,
            train__global_batch_size=64,
            resources__grader=GRADER,
        )
    stage = {
        "model": {"source": f"bedrock:{MICRO}"},
        "method": {
            "kind": "distill_text",
            "teacher": {
                "kind": "bedrock",
                "model": "amazon.nova-pro-v1:0",
                "region": "us-east-1",
                "max_new_tokens": 1000,
            },
        },
    }
    train = {"learning_rate": 1e-5, "num_train_epochs": 2}
    student = {"name": "learn", "method": {"kind": "sft"}, "adapter": {"kind": "lora"}}
    document = {
        "name": "support",
        "stages": [
            {"name": "write", "data": {"train": str(folder / "rows.jsonl")}, **stage},
            {**student, "data": {"train": "stage:write"}, "train": train},
        ],
    }
    path = folder / "distill.yaml"
    path.write_text(json.dumps(document))
    return path
