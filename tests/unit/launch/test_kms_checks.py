"""Check of KMS keys that exist, against an emulated account."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from emulator.environment import EmulatedEnvironment
from launch.aws.session import AwsSession
from launch.doctor.checks import CheckFailed, Skipped
from launch.doctor.kms_checks import ExistingKeysCheck
from tests.unit.launch.fake_accounts import DEV

ACCOUNT_MAY = {
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
    "Action": "kms:*",
    "Resource": "*",
}
LOGS_MAY = {
    "Effect": "Allow",
    "Principal": {"Service": ["logs.us-east-1.amazonaws.com", "cloudtrail.amazonaws.com"]},
    "Action": "kms:*",
    "Resource": "*",
}


@pytest.fixture
def kms(emulated: EmulatedEnvironment) -> Any:
    return AwsSession(DEV).client("kms")


def _key(kms: Any, *statements: dict[str, Any], **arguments: Any) -> str:
    policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    arn: str = kms.create_key(Policy=policy, **arguments)["KeyMetadata"]["Arn"]
    return arn


def _check(**arns: str) -> str:
    return ExistingKeysCheck(AwsSession(dataclasses.replace(DEV, kms_key_arns=arns))).run()


def test_keys_of_the_platform_need_no_check(emulated: EmulatedEnvironment) -> None:
    with pytest.raises(Skipped, match="creates its own KMS keys"):
        _check()


def test_keys_that_can_be_used(kms: Any) -> None:
    keys = {"data": _key(kms, ACCOUNT_MAY), "logs": _key(kms, ACCOUNT_MAY, LOGS_MAY)}
    assert _check(**keys) == "your keys of data, logs can be used"


def test_a_policy_without_the_services(kms: Any) -> None:
    denied = {**LOGS_MAY, "Effect": "Deny", "Action": "kms:Encrypt"}
    text = "logs: the key policy does not allow logs.us-east-1.amazonaws.com, cloudtrail"
    with pytest.raises(CheckFailed, match=text):
        _check(logs=_key(kms, ACCOUNT_MAY, denied))


def test_a_policy_without_the_account(kms: Any) -> None:
    with pytest.raises(CheckFailed, match="allows neither IAM policies of account 123456789012"):
        _check(logs=_key(kms, LOGS_MAY))


def test_a_disabled_or_asymmetric_key(kms: Any) -> None:
    key = _key(kms, ACCOUNT_MAY)
    kms.disable_key(KeyId=key.rpartition("/")[2])
    signing = _key(kms, ACCOUNT_MAY, KeyUsage="SIGN_VERIFY", KeySpec="RSA_2048")
    with pytest.raises(CheckFailed) as caught:
        _check(data=key, models=signing)
    assert "data: KeyState of" in caught.value.detail and "is Disabled" in caught.value.detail
    assert "KeyUsage of" in caught.value.detail and "is SIGN_VERIFY" in caught.value.detail


def test_a_key_that_does_not_exist(emulated: EmulatedEnvironment) -> None:
    missing = "arn:aws:kms:us-east-1:123456789012:key/0b0c0d0e-1111-2222-3333-444455556666"
    with pytest.raises(Exception, match="reading the key arn:aws:kms"):
        _check(data=missing)
