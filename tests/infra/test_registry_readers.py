"""Tests of what the accounts of `training.registry_readers` may read, and of who else may not."""

import json
from typing import Any

from tests.infra.conftest import Assembly

READER = "210987654321"


def _statements(assembly: Assembly, kind: str, key: str) -> list[dict[str, Any]]:
    return [
        statement
        for resource in assembly.of_type(kind)
        for statement in (resource["Properties"].get(key) or {}).get("Statement", [])
        if statement["Effect"] == "Allow" and READER in json.dumps(statement["Principal"])
    ]


def test_another_account_reads_versions_their_files_and_nothing_else(everything: Assembly) -> None:
    [group] = _statements(
        everything, "AWS::SageMaker::ModelPackageGroup", "ModelPackageGroupPolicy"
    )
    assert {action.split(":")[1][:4] for action in group["Action"]} == {"Desc", "List"}
    objects, listing = _statements(everything, "AWS::S3::BucketPolicy", "PolicyDocument")
    assert objects["Action"] == ["s3:GetObject", "s3:GetObjectVersion"]
    assert json.dumps(objects["Resource"]).endswith('/registry/sha256/*"]]}')
    assert listing["Action"] == "s3:ListBucket"
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "registry/sha256/*"}}
    [key] = _statements(everything, "AWS::KMS::Key", "KeyPolicy")
    assert key["Action"] == "kms:Decrypt"
    assert key["Condition"]["StringEquals"]["kms:CallerAccount"] == [READER]
    assert "s3.us-east-1" in json.dumps(key["Condition"]["StringEquals"]["kms:ViaService"])


def test_no_other_account_is_named_without_the_setting(dev: Assembly) -> None:
    kinds = {
        "AWS::SageMaker::ModelPackageGroup": "ModelPackageGroupPolicy",
        "AWS::S3::BucketPolicy": "PolicyDocument",
        "AWS::KMS::Key": "KeyPolicy",
    }
    assert [_statements(dev, kind, key) for kind, key in kinds.items()] == [[], [], []]
    assert "ModelPackageGroupPolicy" not in json.dumps(dev.templates["training"])
