"""Limits on instance types and run time are named before anything is sent."""

from __future__ import annotations

import pytest

from launch.aws.cost_limits import cost_limit_problems
from launch.aws.create_training_job import JobRequirements, create_request
from launch.aws.platform_parameters import PlatformParameters
from launch.submission import attempt_name
from tests.unit.launch.fake_accounts import DEV, VALUES
from tests.unit.launch.test_create_training_job import SUBMISSION
from training.config.runtime import Resources

LIMITS = {
    "training/allowed-instance-types": "ml.g5.*,ml.m5.xlarge",
    "training/max-runtime-hours": "8",
}


def _problems(limits: dict[str, str], **resources: object) -> list[str]:
    platform = PlatformParameters(DEV, {**VALUES, **limits})
    return [str(p) for p in cost_limit_problems(Resources.model_validate(resources), platform)]


def test_a_job_within_the_limits_has_no_problem() -> None:
    assert _problems(LIMITS, instance="ml.g5.2xlarge", max_runtime="8h") == []
    assert _problems(LIMITS, instance="ml.m5.xlarge") == []


def test_a_platform_without_limits_allows_everything() -> None:
    assert _problems({}, instance="ml.p5.48xlarge", max_runtime="400h") == []


def test_every_excess_is_named_with_its_value_and_its_setting() -> None:
    kind, fallback, runtime = _problems(
        LIMITS,
        instance="ml.p5.48xlarge",
        fallback=["ml.g5.48xlarge", "ml.m5.large"],
        max_runtime="9h",
    )
    assert "resources.instance" in kind
    assert "ml.p5.48xlarge" in kind
    assert "ml.g5.*, ml.m5.xlarge" in kind
    assert "training.allowed_instance_types of environments/dev.yaml" in kind
    assert "resources.fallback.1" in fallback
    assert "ml.m5.large" in fallback
    assert "8 h" in runtime
    assert "9h" in runtime


@pytest.mark.parametrize(("limits", "seconds"), [({}, 86400), (LIMITS, 8 * 3600)])
def test_a_job_without_a_run_time_gets_a_day_or_the_limit(
    limits: dict[str, str], seconds: int
) -> None:
    platform = PlatformParameters(DEV, {**VALUES, **limits})
    resources = Resources.model_validate({"instance": "ml.g5.2xlarge"})
    request = create_request(SUBMISSION, JobRequirements(), resources, platform)
    assert request["StoppingCondition"]["MaxRuntimeInSeconds"] == seconds


def test_a_name_begins_with_the_prefix_and_stays_legal() -> None:
    run = "a-very-long-name-of-a-job-that-nobody-would-type-twice/20261122-081500-3fa2"
    name = attempt_name(run, 12, "temper-production-eu")
    assert name.startswith("temper-production-eu-a-very")
    assert name.endswith("-20261122-081500-3fa2-12")
    assert len(name) <= 63
