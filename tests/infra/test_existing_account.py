"""Tests of an environment in an account that has keys, tags, boundaries and people already."""

import json
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import pytest

from catalog.kms_key_users import KEY_SERVICES
from tests.infra.conftest import ROOT, Assembly

ROLES = "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com"
DATA_KEY = "arn:aws:kms:us-east-1:210987654321:key/0b0c0d0e-1111-2222-3333-444455556666"
LOGS_KEY = "arn:aws:kms:us-east-1:111122223333:key/1b0c0d0e-1111-2222-3333-444455556666"


@pytest.fixture(scope="module")
def existing(assembly_of: Callable[[str], Assembly]) -> Assembly:
    return assembly_of("existing")


def _resolved(value: Any) -> str:
    """Return the text of a value, with the partition of commercial Regions."""
    if isinstance(value, dict) and "Fn::Join" in value:
        return "".join(map(_resolved, value["Fn::Join"][1]))
    return "aws" if value == {"Ref": "AWS::Partition"} else str(value)


def test_every_stack_has_the_tags(existing: Assembly) -> None:
    for tags in existing.tags.values():
        assert tags["DataClass"] == "internal"
        assert tags["team:name"] == "research"
        assert tags["Owner"] == "platform-team@example.com"


def test_every_role_has_the_path_and_the_boundary(existing: Assembly) -> None:
    roles = existing.of_type("AWS::IAM::Role")
    assert len(roles) > 8
    assert {role["Properties"].get("Path") for role in roles} == {"/workloads/"}
    boundaries = {_resolved(role["Properties"]["PermissionsBoundary"]) for role in roles}
    assert boundaries == {"arn:aws:iam::111122223333:policy/mandated/workload-boundary"}


def test_keys_that_exist_take_the_place_of_ours(existing: Assembly) -> None:
    keys = existing.of_type("AWS::KMS::Key")
    assert {key["Properties"]["Description"].removeprefix("Temper: ") for key in keys} == {
        *("models", "messages"),
        "lifecycle",  # of the scripts that the cluster stack itself uploads; not replaceable
    }
    [file_system] = existing.of_type("AWS::FSx::FileSystem")
    assert file_system["Properties"]["KmsKeyId"] == DATA_KEY
    for group in existing.of_type("AWS::Logs::LogGroup"):
        assert group["Properties"]["KmsKeyId"] == LOGS_KEY
    assert f'"Name": "/temper-own/keys/data", "Type": "String", "Value": "{DATA_KEY}"' in (
        json.dumps(existing.templates)
    )


def test_a_data_bucket_that_exists_takes_the_place_of_ours(existing: Assembly) -> None:
    names = {bucket["Properties"]["BucketName"] for bucket in existing.of_type("AWS::S3::Bucket")}
    assert not [name for name in names if name.startswith("temper-own-data")]
    text = json.dumps(existing.templates)
    assert '"Name": "/temper-own/buckets/data", "Type": "String", "Value": "corpora-of' in text
    assert "temper-own-data-" not in text  # no policy names a bucket that does not exist
    assert ":s3:::corpora-of-the-company/*" in text


def test_a_data_bucket_that_exists_is_read_by_lustre_and_never_written(existing: Assembly) -> None:
    [link] = existing.of_type("AWS::FSx::DataRepositoryAssociation")
    assert link["Properties"]["DataRepositoryPath"] == "s3://corpora-of-the-company"
    assert set(link["Properties"]["S3"]) == {"AutoImportPolicy"}


def test_roles_of_jobs_may_use_the_key_of_the_data_bucket(existing: Assembly) -> None:
    [policy] = [
        policy["Properties"]
        for policy in existing.of_type("AWS::IAM::ManagedPolicy")
        if "UseDataBucketKey" in json.dumps(policy)
    ]
    [statement] = policy["PolicyDocument"]["Statement"]
    assert statement["Resource"].endswith("key/2b0c0d0e-1111-2222-3333-444455556666")
    assert (
        len(policy["Roles"]) == 6
    )  # training, with secrets, node, controller, processing, engineer


def _engineer_trust(existing: Assembly) -> list[dict[str, Any]]:
    [role] = [
        role
        for role in existing.of_type("AWS::IAM::Role")
        if role["Properties"].get("Description", "").startswith("Starts, watches")
    ]
    statements: list[dict[str, Any]] = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    return statements


@pytest.mark.parametrize(
    ("role", "admitted"),
    [
        (f"{ROLES}/AWSReservedSSO_Researchers_1234567890abcdef", True),
        (f"{ROLES}/eu-west-2/AWSReservedSSO_Researchers_1234567890abcdef", True),
        (f"{ROLES}/AWSReservedSSO_Researchers_Admin_1234567890abcdef", False),
        (f"{ROLES}/AWSReservedSSO_Researchers_", False),
        (f"{ROLES}/AWSReservedSSO_Other_1234567890abcdef", False),
        ("arn:aws:iam::111122223333:role/AWSReservedSSO_Researchers_1234567890abcdef", False),
        (f"{ROLES.replace('1111', '9999')}/AWSReservedSSO_Researchers_1234567890abcdef", False),
    ],
)
def test_a_permission_set_admits_its_own_roles_only(
    existing: Assembly, role: str, admitted: bool
) -> None:
    """`ArnLike` and `fnmatch` agree on `*` and `?`."""
    [conditional] = [s for s in _engineer_trust(existing) if "Condition" in s]
    assert conditional["Condition"].keys() == {"ArnLike"}
    patterns = map(_resolved, conditional["Condition"]["ArnLike"]["aws:PrincipalArn"])
    assert any(fnmatchcase(role, pattern) for pattern in patterns) is admitted
    assert _resolved(conditional["Principal"]["AWS"]).endswith(":root")


def test_named_roles_need_no_condition(existing: Assembly) -> None:
    [plain] = [s for s in _engineer_trust(existing) if "Condition" not in s]
    assert plain["Principal"]["AWS"] == "arn:aws:iam::111122223333:role/people/operators"


def test_the_page_names_the_services_that_key_policies_must_allow(everything: Assembly) -> None:
    """Compare the page and the doctor's table with the policies of the platform's own keys."""
    page = (ROOT / "docs" / "platform" / "existing-resources.md").read_text(encoding="utf-8")
    section = page.split("## Your own KMS keys")[1].split("## ")[0]
    for key in everything.of_type("AWS::KMS::Key"):
        domain = key["Properties"]["Description"].removeprefix("Temper: ")
        if domain == "lifecycle":
            continue  # a key of the cluster's scripts, which stays the platform's
        services = {
            statement["Principal"]["Service"]
            for statement in key["Properties"]["KeyPolicy"]["Statement"]
            if "Service" in statement["Principal"]
        }
        assert services == {name.format(region="us-east-1") for name in KEY_SERVICES[domain]}
        row = re.search(rf"^\| {domain} \|.*$", section, re.MULTILINE)
        assert row
        for service in KEY_SERVICES[domain]:
            assert service.format(region="REGION") in row.group()
