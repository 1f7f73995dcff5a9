"""CreateProcessingJob requests: a golden file, the service's schema, and its limits.

`python -m tests.unit.launch.processing.test_request` rewrites the golden file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from catalog.cpu_instances import cpu_instances
from catalog.prices import price
from emulator.botocore_schema import validation_errors
from launch.aws.platform_parameters import PlatformParameters
from launch.errors import LaunchError
from launch.processing.request import (
    MAX_INPUTS,
    ProcessingInput,
    ProcessingResources,
    job_name,
    processing_request,
)
from tests.unit.launch.fake_accounts import ACCOUNT, DEV, IMAGE, VALUES

GOLDEN = Path(__file__).with_name("request.json")
PLATFORM = PlatformParameters(
    DEV,
    {
        **VALUES,
        "roles/processing": f"arn:aws:iam::{ACCOUNT}:role/temper-dev-processing",
        "images/prepare/uri": f"{IMAGE}/prepare@sha256:{'c' * 64}",
    },
)
BUCKET = VALUES["buckets/data"]
SHAPES = botocore.session.get_session().get_service_model("sagemaker")


def request(**resources: Any) -> dict[str, Any]:
    settings = {"instance": "ml.c5.4xlarge", "count": 2, "volume_gib": 41.2, "max_runtime_s": 5400}
    return processing_request(
        job_name("temper-dev", "tickets", "0123456789abcdef", 1),
        {
            "job": ProcessingInput(f"s3://{BUCKET}/uploads/prepare/0123456789abcdef01234567/"),
            "source-0": ProcessingInput(f"s3://{BUCKET}/uploads/0123456789abcdef01234567/"),
        },
        ProcessingResources(**{**settings, **resources}),
        PLATFORM,
        creator="CORP\\ada",
        data_set="tickets",
    )


def test_request_is_that_of_the_golden_file() -> None:
    assert request() == json.loads(GOLDEN.read_text())


def test_service_accepts_the_request() -> None:
    assert validation_errors("sagemaker", "CreateProcessingJob", request()) == []


def test_limits_are_those_of_the_service() -> None:
    shape = SHAPES.operation_model("CreateProcessingJob").input_shape
    members = shape.members
    assert members["ProcessingInputs"].metadata["max"] == MAX_INPUTS
    longest = members["StoppingCondition"].members["MaxRuntimeInSeconds"].metadata["max"]
    assert request(max_runtime_s=10**9)["StoppingCondition"]["MaxRuntimeInSeconds"] == longest
    cluster = request(volume_gib=10**6)["ProcessingResources"]["ClusterConfig"]
    limits = members["ProcessingResources"].members["ClusterConfig"].members
    assert cluster["VolumeSizeInGB"] == limits["VolumeSizeInGB"].metadata["max"]
    assert {f"ml.{name}" for name in cpu_instances()} <= set(limits["InstanceType"].enum)


def test_every_instance_type_has_a_price() -> None:
    prices = [price(name) for name in cpu_instances()]
    assert all(found is not None and found.on_demand_usd > 0.1 for found in prices)
    published = {"ml.m5.4xlarge": 0.922, "ml.c5.4xlarge": 0.816}  # SageMaker, us-east-1
    for name, usd in published.items():
        found = price(name)
        assert found is not None
        assert found.on_demand_usd == pytest.approx(usd, abs=1e-3)


def test_names_are_short_and_allowed() -> None:
    name = job_name("temper-production", "a_long.name" * 9, "0123456789abcdef", 12)
    pattern = SHAPES.shape_for("ProcessingJobName").metadata["pattern"]
    assert len(name) <= 63
    assert name.endswith("-0123456789ab-12")
    assert re.fullmatch(pattern, name)


def test_image_that_was_not_published_is_named() -> None:
    with pytest.raises(LaunchError, match=r"no prepare image .* temper publish-image prepare"):
        PlatformParameters(DEV, VALUES).image("prepare")


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(request(), indent=2) + "\n")
