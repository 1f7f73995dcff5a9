"""Tests that the execution policies cover the templates, and allow no role without a boundary."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from stacks.execution_policy import (
    MAXIMUM_CHARACTERS,
    WITH_BOUNDARY,
    execution_policies,
    required_actions,
)
from stacks.settings import read_environment
from tests.infra.conftest import OURS, TESTS, Assembly
from tests.infra.test_permissions import _reference

BOUNDARY = "arn:aws:iam::111122223333:policy/temper-all-boundary"
# Actions that creating a resource requires besides the call itself, by AWS's documentation.
WELL_KNOWN = {
    "AWS::SageMaker::Cluster": {"sagemaker:CreateCluster", "iam:PassRole"},
    "AWS::KMS::Key": {"kms:CreateKey", "kms:PutKeyPolicy", "kms:EnableKeyRotation"},
    "AWS::S3::Bucket": {
        *("s3:CreateBucket", "s3:PutBucketTagging", "s3:PutBucketVersioning"),
        *("s3:PutBucketObjectLockConfiguration", "s3:PutEncryptionConfiguration"),
        *("s3:PutLifecycleConfiguration", "s3:PutBucketLogging", "s3:PutBucketPublicAccessBlock"),
    },
    "AWS::Lambda::Function": {"lambda:CreateFunction", "iam:PassRole"},
    "AWS::FSx::FileSystem": {"fsx:CreateFileSystem", "iam:CreateServiceLinkedRole"},
    "AWS::CodeBuild::Project": {"codebuild:CreateProject", "iam:PassRole"},
    "AWS::EC2::VPCEndpoint": {"ec2:CreateVpcEndpoint"},
    "AWS::Logs::LogGroup": {"logs:CreateLogGroup", "logs:PutRetentionPolicy"},
}


def _types(assembly: Assembly) -> set[str]:
    return {
        str(resource["Type"])
        for template in assembly.templates.values()
        for resource in template["Resources"].values()
    }


def _policies(assembly: Assembly) -> list[dict[str, Any]]:
    folder = OURS if (OURS / f"{assembly.name}.yaml").is_file() else TESTS
    environment = read_environment(folder, assembly.name)
    return execution_policies(environment, "111122223333", _types(assembly), BOUNDARY)


def _statements(assembly: Assembly) -> list[dict[str, Any]]:
    return [s for document in _policies(assembly) for s in document["Statement"]]


@pytest.mark.parametrize("name", ["everything", "eks", "existing", "prod"])
def test_every_type_of_every_template_is_covered(
    assembly_of: Callable[[str], Assembly], name: str
) -> None:
    assembly = assembly_of(name)
    allowed = {
        action
        for statement in _statements(assembly)
        if statement["Effect"] == "Allow"
        for action in statement["Action"]
    }
    for resource_type in _types(assembly):
        assert required_actions([resource_type], "us-east-1") <= allowed, resource_type
        assert WELL_KNOWN.get(resource_type, set()) <= allowed, resource_type


def test_each_policy_fits_and_bootstrap_takes_them_all(everything: Assembly) -> None:
    policies = _policies(everything)
    assert 1 < len(policies) <= 10  # managed policies that a role can have, by default
    for policy in policies:
        assert len(json.dumps(policy, separators=(",", ":"))) <= MAXIMUM_CHARACTERS


def test_no_role_is_created_or_changed_without_the_boundary(everything: Assembly) -> None:
    for statement in _statements(everything):
        actions = set(statement["Action"])
        if statement["Effect"] == "Deny":
            continue
        assert not [action for action in actions if "*" in action]
        iam = {action for action in actions if action.startswith("iam:")}
        if not iam:
            continue
        assert statement["Resource"] != "*"
        if actions & WITH_BOUNDARY and "aws-service-role" not in statement["Resource"]:
            expected = {"StringEquals": {"iam:PermissionsBoundary": BOUNDARY}}
            assert statement["Condition"] == expected
            assert statement["Resource"] == "arn:aws:iam::111122223333:role/temper-all-*"
        assert not [a for a in iam if "User" in a or "Group" in a or "DeleteRolePerm" in a]


def test_actions_are_those_of_the_service_reference(everything: Assembly) -> None:
    """Compare with AWS's service reference; IAM ignores the few names that are operations of S3."""
    unknown = {
        action
        for action in required_actions(_types(everything), "us-east-1")
        if not _reference("actions", action.partition(":")[0]).get(action.partition(":")[2].lower())
    }
    assert len(unknown) < 15
    assert not [action for action in unknown if action.startswith(("iam:", "kms:", "sagemaker:"))]


def test_the_boundary_itself_cannot_be_changed(everything: Assembly) -> None:
    [deny] = [s for s in _statements(everything) if s["Effect"] == "Deny"]
    assert deny["Resource"] == BOUNDARY
    assert "iam:CreatePolicyVersion" in deny["Action"]


def test_regional_services_are_bound_to_the_region(everything: Assembly) -> None:
    free = {
        statement["Action"][0].partition(":")[0]
        for statement in _statements(everything)
        if statement["Resource"] == "*" and "Condition" not in statement
    }
    assert free <= {"billing", "budgets", "ce", "organizations"}


def test_a_type_without_known_actions_is_refused() -> None:
    with pytest.raises(ValueError, match="DeviceDefinition lists no permissions"):
        required_actions(["AWS::Greengrass::DeviceDefinition"], "us-east-1")
