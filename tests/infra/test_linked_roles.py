"""Tests that Lustre reaches the data bucket through its service-linked role only."""

from typing import Any

from tests.infra.conftest import Assembly
from tests.infra.permissions.resolved import ACCOUNT, REGION, ResolvedRoles
from tests.infra.test_permissions import simulated

LINKED = (
    "aws-service-role/s3.data-source.lustre.fsx.amazonaws.com/AWSServiceRoleForFSxS3Access_fs-1"
)
THROUGH_S3 = {"kms:ViaService": f"s3.{REGION}.amazonaws.com", "kms:CallerAccount": ACCOUNT}
DIRECTLY = {"kms:CallerAccount": ACCOUNT}


def _ask(roles: ResolvedRoles, role: str, domain: str, context: dict[str, str]) -> dict[str, Any]:
    key, policy = roles.key(domain)
    principal = f"arn:aws:iam::{ACCOUNT}:role/{role}"
    return {
        "request": {
            "principal": principal,
            "action": "kms:Decrypt",
            "resource": {"resource": key, "accountId": ACCOUNT},
            "contextVariables": {**context, "aws:PrincipalArn": principal},
        },
        "identityPolicies": [],
        "serviceControlPolicies": [],
        "resourceControlPolicies": [],
        "resourcePolicy": policy,
    }


def test_lustre_alone_uses_the_data_key_without_being_named(everything: Assembly) -> None:
    roles = ResolvedRoles(everything)
    asked = [
        (True, _ask(roles, LINKED, "data", THROUGH_S3)),
        (False, _ask(roles, LINKED, "data", DIRECTLY)),
        (False, _ask(roles, LINKED, "models", THROUGH_S3)),
        (False, _ask(roles, "people/somebody", "data", THROUGH_S3)),
    ]
    verdicts = simulated([simulation for _, simulation in asked])
    assert [each["verdict"] for each in verdicts if each["verdict"] == "Error"] == []
    assert [each["verdict"] == "Allowed" for each in verdicts] == [may for may, _ in asked]


def test_without_a_cluster_nobody_is_let_in_unnamed(dev: Assembly) -> None:
    statements = ResolvedRoles(dev).key("data")[1]["Statement"]
    assert [s["Sid"] for s in statements if s["Principal"] in ("*", {"AWS": "*"})] == []
