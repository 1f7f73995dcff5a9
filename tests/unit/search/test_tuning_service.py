"""Requests to SageMaker's tuning service: golden files, the service's schema, refusals.

`python -m tests.unit.search.test_tuning_service` rewrites the golden files.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from emulator.botocore_schema import validation_errors
from launch.aws.create_training_job import create_request
from launch.aws.platform_parameters import PlatformParameters
from search.config import SearchParameter, SearchSettings
from search.job_file import load_search_job
from search.tuning_service.metrics import printed_metric, printed_paths
from search.tuning_service.request import tuning_request, value_text
from search.tuning_service.results import read_value
from tests.run_commands import ROOT, changed
from tests.unit.launch.fake_accounts import DEV, VALUES
from tests.unit.launch.test_create_training_job import REQUIREMENTS, SUBMISSION
from training.config import Job, load_job
from training.config.runtime import Resources
from training.errors import JobError
from training.tracking.progress_lines import METRIC_PATTERNS, evaluation_line

GOLDEN = Path(__file__).parent / "requests"
RATE = {"low": 1.0e-5, "high": 1.0e-3, "log": True}
RANKS = {"low": 8, "high": 64, "step": 8}
# name -> (settings of the search, resources)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "bayesian": (
        {
            "space": {"train.learning_rate": RATE, "adapter.r": RANKS},
            "algorithm": "sagemaker-bayesian",
            "early_stopping": "median",
            "max_time": "6h",
            "warm_start": {"jobs": ["temper-dev-support-0123abcd"], "kind": "transfer"},
        },
        {"instance": "ml.g5.2xlarge", "max_runtime": "1h"},
    ),
    "hyperband": (
        {
            "space": {"train.learning_rate": RATE, "train.max_steps": {"low": 50, "high": 200}},
            "algorithm": "sagemaker-hyperband",
            "objective": {"metric": "validation.accuracy", "direction": "maximize"},
        },
        {"instance": "ml.g5.12xlarge", "fallback": ["ml.g6e.12xlarge"]},
    ),
    "grid": (
        {
            "space": {
                "train.lr_scheduler": {"choices": ["cosine", "linear"]},
                "train.learning_rate": {"choices": [1.0e-5, 3.0e-4]},
                "train.gradient_checkpointing": {"choices": [True, False]},
            },
            "algorithm": "sagemaker-grid",
        },
        {"instance": "ml.m5.2xlarge"},
    ),
}


def request_of(case: str) -> dict[str, Any]:
    changes, resources = CASES[case]
    settings = SearchSettings.model_validate({"trials": 20, "parallel": 4, **changes})
    platform = PlatformParameters(DEV, VALUES)
    training = create_request(
        SUBMISSION, REQUIREMENTS, Resources.model_validate(resources), platform
    )
    name = "temper-dev-support-lora-3fa2beef"
    return tuning_request(name, training, settings, trials=20, evaluations=9)


@pytest.mark.parametrize("case", CASES)
def test_the_request_is_as_recorded_and_valid(case: str) -> None:
    request = request_of(case)
    assert validation_errors("sagemaker", "CreateHyperParameterTuningJob", request) == []
    assert request == json.loads((GOLDEN / f"{case}.json").read_text())
    definition = request["TrainingJobDefinition"]
    # The definition has no command: the image's default entry point reads the job file's channel.
    assert not {"ContainerEntrypoint", "ContainerArguments"} & set(
        definition["AlgorithmSpecification"]
    )
    assert definition["Environment"]["TEMPER_JOB"].startswith("/opt/ml/input/data/job/")


def test_the_objective_is_matched_by_a_pattern_on_the_line_that_a_job_prints() -> None:
    for path in printed_paths():
        name = printed_metric(path)
        assert name is not None
        line = evaluation_line(10, 10, {path.removeprefix("validation."): 0.25})
        match = re.search(METRIC_PATTERNS[name], line)
        assert match is not None and float(match[1]) == 0.25
    assert printed_metric("forgetting.change") is None


@pytest.mark.parametrize(
    "parameter, text, value",
    [
        (RATE, "1.2E-4", 1.2e-4),
        (RATE, "9.9E-6", 1.0e-5),
        ({"low": 1, "high": 9}, "4", 4),
        (RANKS, "16", 16),
        ({"choices": [True, None, "none", 1.0e-5]}, "true", True),
        ({"choices": [True, None, "none", 1.0e-5]}, "null", None),
        ({"choices": [True, None, "none", 1.0e-5]}, "none", "none"),
        ({"choices": [True, None, "none", 1.0e-5]}, value_text(1.0e-5), 1.0e-5),
    ],
)
def test_values_that_the_service_chose_are_read_back(
    parameter: dict[str, Any], text: str, value: object
) -> None:
    assert read_value(SearchParameter.model_validate(parameter), text, grid=False) == value


def test_values_reach_the_job_as_overrides() -> None:
    for value in (1.0e-5, 3.0e-4):
        job = load_job(ROOT / "jobs/ia3.yaml", f"train.learning_rate={value_text(value)}")
        assert isinstance(job, Job) and job.train.learning_rate == value


def test_everything_that_the_service_cannot_do_is_refused_at_once(tmp_path: Path) -> None:
    document = changed(
        yaml.safe_load((ROOT / "jobs/search.yaml").read_text()),
        resources={"instance": "ml.g5.2xlarge", "spot": True},
        evaluate={"every": "10min"},
    )
    document["search"] = {
        "space": {"train.weight_decay": {"low": 0.0, "high": 1.0, "step": 0.01}},
        "algorithm": "sagemaker-hyperband",
        "early_stopping": "asha",
        "objective": {"gates": [{"metric": "saved.validation.loss", "max": 3}]},
        "max_time": "1min",
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(JobError) as refused:
        load_search_job(path)
    message = str(refused.value)
    for part in (
        "the tuning service reads nothing but its log",
        "has 101 values; the tuning service takes a list of 30",
        "Use median, or algorithm sagemaker-hyperband",
        "compares evaluations during training",
        "could not resume",
        "needs two minutes or more",
    ):
        assert part in message, message


if __name__ == "__main__":
    for name in CASES:
        (GOLDEN / f"{name}.json").write_text(json.dumps(request_of(name), indent=1) + "\n")
