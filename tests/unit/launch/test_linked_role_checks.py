"""Check of service-linked roles, and of an account in which nothing is deployed yet."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from emulator.environment import EmulatedEnvironment
from launch.aws.session import AwsSession
from launch.doctor.account_checks import AccountChecks
from launch.doctor.checks import CheckWarning, Skipped, run_checks
from launch.doctor.linked_role_checks import LinkedRolesCheck
from launch.environment import read_environment
from tests.unit.launch.fake_accounts import DEV

CLUSTER = {"hyperpod": {"enabled": True, "accounting": {}}}


def _check(sections: dict[str, Any]) -> str:
    return LinkedRolesCheck(AwsSession(dataclasses.replace(DEV, sections=sections))).run()


def test_missing_roles_are_named_with_the_command(emulated: EmulatedEnvironment) -> None:
    with pytest.raises(CheckWarning, match="AWSServiceRoleForRDS not in the account") as caught:
        _check(CLUSTER)
    command = "aws iam create-service-linked-role --aws-service-name"
    assert f"{command} hyperpod.sagemaker.amazonaws.com" in caught.value.fix
    assert f"{command} rds.amazonaws.com" in caught.value.fix


def test_roles_that_exist(emulated: EmulatedEnvironment) -> None:
    iam = AwsSession(DEV).client("iam")
    name = "AWSServiceRoleForECRPullThroughCache"
    service = "pullthroughcache.ecr.amazonaws.com"
    iam.create_role(
        Path=f"/aws-service-role/{service}/", RoleName=name, AssumeRolePolicyDocument="{}"
    )
    assert _check({"images": {"pull_through_cache": True}}) == name


def test_features_without_a_linked_role(emulated: EmulatedEnvironment) -> None:
    with pytest.raises(Skipped, match="no enabled feature"):
        _check({"hyperpod": {"enabled": False, "accounting": {}}})


def test_an_account_without_the_platform_is_checked_too(
    emulated: EmulatedEnvironment, tmp_path: Path
) -> None:
    """Run all checks of an environment that was never deployed."""
    (tmp_path / "new.yaml").write_text(
        "name: new\nprefix: temper-new\nregion: us-east-1\nhyperpod: {enabled: true}\n"
    )
    checks = AccountChecks(AwsSession(read_environment("new", tmp_path)))
    outcomes = {result.check: result for result in run_checks(checks.checks())}
    assert outcomes["linked roles"].outcome == "warning"
    assert outcomes["platform"].outcome == "failed"
    assert "make deploy ENV=new" in outcomes["platform"].detail
    assert outcomes["quota"].detail != "needs: platform"
    assert outcomes["image"].detail == "needs: platform"
