"""Tests that the AWS tables match the data of the pinned tools."""

from typing import Any

import yaml

from stacks.aws_data import refresh
from stacks.aws_data.tables import HERE, hyperpod_instances, instances, regions, training_instances


def _table(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((HERE / name).read_text(encoding="utf-8"))
    return content


def test_instances_are_as_recorded() -> None:
    assert _table("instances.yaml")["table"] == refresh.instances()


def test_regions_are_as_the_schemas_say() -> None:
    assert _table("regions.yaml")["table"] == refresh.regions()


def test_types_of_hyperpod_are_as_the_service_describes() -> None:
    assert sorted(hyperpod_instances()) == refresh.hyperpod_instances()


def test_types_of_training_jobs_are_as_the_service_describes() -> None:
    assert sorted(training_instances()) == refresh.training_instances()


def test_known_machines() -> None:
    assert (instances()["p4d.24xlarge"].devices, instances()["p4d.24xlarge"].efa) == (8, 4)
    assert (instances()["p5.48xlarge"].devices, instances()["p5.48xlarge"].efa) == (8, 32)
    assert instances()["p5.4xlarge"].efa == 1
    assert instances()["trn1.32xlarge"].devices == 16


def test_known_gaps() -> None:
    assert "AWS::SageMaker::ClusterSchedulerConfig" in regions()["us-west-2"]
    assert "AWS::SageMaker::ComputeQuota" in regions()["ap-northeast-1"]
    assert regions()["us-east-1"] == frozenset()
