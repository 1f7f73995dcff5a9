"""Tests that templates match the committed ones, and that replacements are recognised."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from stacks.transitions.changes import HOLDS_DATA, changes
from stacks.transitions.schemas import create_only
from tests.infra.baselines import ENVIRONMENTS, committed, normalized
from tests.infra.conftest import Assembly


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_templates_are_as_committed(assembly_of: Callable[[str], Assembly], name: str) -> None:
    found = changes(committed(name), normalized(assembly_of(name).templates))
    lines = "\n".join(map(str, found))
    assert not found, f"a deployment of {name} would do this; `make baselines` accepts it:\n{lines}"


@pytest.fixture
def prod_templates() -> dict[str, Any]:
    return copy.deepcopy(committed("prod"))


def _change(
    before: dict[str, Any], kind: str, edit: Callable[[dict[str, Any]], None]
) -> list[tuple[str, bool]]:
    """Edit the first resource of a type and classify what becomes of it."""
    after = copy.deepcopy(before)
    for template in after.values():
        for logical_id, resource in template["Resources"].items():
            if resource["Type"] == kind:
                edit(resource["Properties"])
                found = [each for each in changes(before, after) if each.logical_id == logical_id]
                return [(change.kind, change.loses_data) for change in found]
    raise LookupError(kind)


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("AWS::S3::Bucket", "BucketName", "another-name"),
        ("AWS::ECR::Repository", "RepositoryName", "another"),
        ("AWS::ECR::Repository", "EncryptionConfiguration", {"EncryptionType": "AES256"}),
        ("AWS::SecretsManager::Secret", "Name", "another"),
        ("AWS::Logs::LogGroup", "LogGroupName", "another"),
        ("AWS::DynamoDB::Table", "TableName", "another"),
        ("AWS::SageMaker::ModelPackageGroup", "ModelPackageGroupName", "another"),
        ("AWS::SageMaker::MlflowApp", "RoleArn", "arn:aws:iam::1:role/another"),
    ],
)
def test_a_replacement_is_recognised(
    prod_templates: dict[str, Any], kind: str, key: str, value: Any
) -> None:
    found = _change(prod_templates, kind, lambda properties: properties.update({key: value}))
    assert found == [("replaced", True)]


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("AWS::S3::Bucket", "LifecycleConfiguration", {"Rules": []}),
        ("AWS::KMS::Key", "Description", "another"),
        ("AWS::ECR::Repository", "LifecyclePolicy", {}),
        ("AWS::Logs::LogGroup", "RetentionInDays", 7),
    ],
)
def test_an_update_in_place_is_no_loss(
    prod_templates: dict[str, Any], kind: str, key: str, value: Any
) -> None:
    found = _change(prod_templates, kind, lambda properties: properties.update({key: value}))
    assert found == [("updated", False)]


def test_a_renamed_construct_is_a_loss(prod_templates: dict[str, Any]) -> None:
    after = copy.deepcopy(prod_templates)
    resources = after["storage"]["Resources"]
    [old] = [
        k
        for k, r in resources.items()
        if k.startswith("ModelsBucket") and r["Type"] == "AWS::S3::Bucket"
    ]
    resources["Renamed"] = resources.pop(old)
    found = {(c.kind, c.logical_id, c.loses_data) for c in changes(prod_templates, after)}
    assert found == {("deleted", old, True), ("created", "Renamed", False)}


def test_the_removal_of_a_stack_is_a_loss_of_its_data(prod_templates: dict[str, Any]) -> None:
    after = {k: v for k, v in prod_templates.items() if k != "storage"}
    lost = [c.resource_type for c in changes(prod_templates, after) if c.loses_data]
    assert lost.count("AWS::S3::Bucket") == 4


def test_what_does_not_hold_data_may_be_replaced(prod_templates: dict[str, Any]) -> None:
    found = _change(
        prod_templates, "AWS::EC2::SecurityGroup", lambda p: p.update(GroupDescription="another")
    )
    assert found == [("replaced", False)]


@pytest.mark.parametrize("kind", sorted(HOLDS_DATA - {"AWS::KMS::Key"}))
def test_the_schemas_know_what_forces_a_replacement(kind: str) -> None:
    assert create_only(kind)
