"""Machines that a job requests: instance types that cannot train, volumes without effect."""

from __future__ import annotations

from typing import Any

import pytest

from launch.resources import cluster_problems, unused_keys
from training.config import Job
from training.config.load import parse_job
from training.errors import JobError


def job(**resources: Any) -> Job:
    document = {
        "name": "machines",
        "model": {"source": "owner/model"},
        "data": {"train": "owner/rows"},
        "method": {"kind": "sft"},
        "train": {"max_steps": 2},
        "resources": resources,
    }
    parsed = parse_job(document, "job.yaml")
    assert isinstance(parsed, Job)
    return parsed


@pytest.mark.parametrize(
    ("resources", "key"),
    [
        ({"instance": "ml.trn1.32xlarge"}, "resources.instance"),
        ({"instance": "ml.trn1n.32xlarge"}, "resources.instance"),
        ({"instance": "ml.p4d.24xlarge", "fallback": ["ml.trn1.2xlarge"]}, "resources.fallback"),
    ],
)
def test_trainium_1_is_refused_by_name(resources: dict[str, Any], key: str) -> None:
    with pytest.raises(JobError) as error:
        job(**resources)
    (problem,) = error.value.problems
    assert problem.path == key and "Trainium 2 and 3" in problem.message
    assert "trn1" in problem.value


def test_trainium_2_is_accepted() -> None:
    assert job(instance="ml.trn2.48xlarge").resources.instance == "ml.trn2.48xlarge"


def test_volume_of_instances_with_local_disks_is_refused() -> None:
    with pytest.raises(JobError, match=r"SageMaker uses the local disks .* ml.g5.2xlarge has 450"):
        job(instance="ml.g5.2xlarge", volume_gib=100)
    # The volume counts if one of the types needs it.
    mixed = job(instance="ml.g5.2xlarge", fallback=["ml.m5.2xlarge"], volume_gib=100)
    assert mixed.resources.volume_gib == 100


@pytest.mark.parametrize("target", ["slurm", "hyperpod", "eks"])
def test_registration_is_refused_by_clusters(target: str) -> None:
    (problem,) = cluster_problems(job(register_model=True), target)
    assert f"--target {target}" in problem.message
    assert not cluster_problems(job(), target)


def test_unused_keys_are_named() -> None:
    wanted = job(instance="ml.g5.2xlarge", spot=True, max_runtime="1h", retries=2)
    assert unused_keys(wanted, "slurm") == ("not used by slurm: resources.instance, retries, spot",)
    assert unused_keys(wanted, "eks") == ("not used by eks: resources.spot",)
    assert unused_keys(job(count=2, partition="gpus"), "slurm") == ()
