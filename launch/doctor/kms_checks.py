"""Check of KMS keys that exist (`security.kms_key_arns`): state, kind and policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from catalog.kms_key_users import KEY_SERVICES
from launch.aws.session import DENIED, AwsSession, explain_aws_errors
from launch.doctor.checks import CheckFailed, Skipped


class ExistingKeysCheck:
    """Comparison of your KMS keys with what the platform needs of them.

    It needs no deployed platform: it is meant to be run before the first deployment.

    Args:
        account: Session of the account.
    """

    def __init__(self, account: AwsSession):
        self.account = account
        arns = account.environment.kms_key_arns
        self.arns = {domain: str(arn) for domain, arn in arns.items() if arn}

    def run(self) -> str:
        """Return which keys were checked.

        Raises:
            CheckFailed: A key cannot be used, with every reason.
            Skipped: The platform creates its own keys, or the credentials may not read keys.
        """
        if not self.arns:
            raise Skipped("the platform creates its own KMS keys")
        problems = [
            problem for domain, arn in self.arns.items() for problem in self._problems(domain, arn)
        ]
        if problems:
            page = "docs/platform/existing-resources.md, Your own KMS keys"
            raise CheckFailed("; ".join(problems), f"change the key or its policy: {page}")
        return f"your keys of {', '.join(self.arns)} can be used"

    def _problems(self, domain: str, arn: str) -> Iterator[str]:
        kms = self.account.client("kms")
        answers: dict[str, Any] = {}
        with explain_aws_errors(f"reading the key {arn}", ignore=DENIED):
            answers["key"] = kms.describe_key(KeyId=arn)["KeyMetadata"]
            answers["policy"] = kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"]
        if "policy" not in answers:
            raise Skipped(f"these credentials may not read the key {arn}")
        key = answers["key"]
        wanted = {"KeyState": "Enabled", "KeyUsage": "ENCRYPT_DECRYPT"}
        wanted["KeySpec"] = "SYMMETRIC_DEFAULT"
        for member, value in wanted.items():
            if key.get(member, value) != value:
                yield f"{domain}: {member} of {arn} is {key[member]}, not {value}"
        yield from self._policy_problems(domain, json.loads(answers["policy"]))

    def _policy_problems(self, domain: str, policy: dict[str, Any]) -> Iterator[str]:
        allowed = json.dumps(
            [each for each in policy.get("Statement", ()) if each.get("Effect") == "Allow"]
        )
        environment = self.account.environment
        services = [name.format(region=environment.region) for name in KEY_SERVICES[domain]]
        if missing := [service for service in services if service not in allowed]:
            yield f"{domain}: the key policy does not allow {', '.join(missing)}"
        account = self.account.client("sts").get_caller_identity()["Account"]
        if f":iam::{account}:root" not in allowed and f"{environment.prefix}-" not in allowed:
            yield (
                f"{domain}: the key policy allows neither IAM policies of account {account} nor "
                f"the roles {environment.prefix}-*"
            )
