"""A job runs as the role that can read secrets only if it names one."""

from __future__ import annotations

from typing import Any

import pytest

from launch.aws.create_training_job import JobRequirements, create_request
from launch.aws.platform_parameters import PlatformParameters
from tests.unit.launch.fake_accounts import DEV, VALUES
from tests.unit.launch.test_create_training_job import SUBMISSION
from training.config.runtime import Resources

WITH_SECRETS = "arn:aws:iam::123456789012:role/temper-dev-training-with-secrets"


@pytest.mark.parametrize(
    ("requirements", "with_secrets"),
    [
        ({}, False),
        ({"mlflow": True}, False),
        ({"calls_endpoints": True}, False),
        ({"needs_hub": True}, True),
        ({"key_variables": ("JUDGE_KEY",)}, True),
    ],
)
def test_the_role_follows_the_secrets(requirements: dict[str, Any], with_secrets: bool) -> None:
    values = {**VALUES, "roles/training-with-secrets": WITH_SECRETS}
    resources = Resources.model_validate({"instance": "ml.g5.2xlarge"})
    needed = JobRequirements(**requirements)
    request = create_request(SUBMISSION, needed, resources, PlatformParameters(DEV, values))
    assert request["RoleArn"] == (WITH_SECRETS if with_secrets else VALUES["roles/training"])
    # A platform that was deployed earlier has one role for all jobs.
    before = create_request(SUBMISSION, needed, resources, PlatformParameters(DEV, VALUES))
    assert before["RoleArn"] == VALUES["roles/training"]
