"""Tests of who may assume which role: services for this account's resources, and named people."""

from typing import Any

import pytest

from tests.infra.conftest import Assembly
from tests.infra.permissions.resolved import ACCOUNT, ResolvedRoles
from tests.infra.permissions.simulator import simulated

OURS = {"aws:SourceAccount": ACCOUNT}
THEIRS = {"aws:SourceAccount": "999999999999"}
PEOPLE = f"arn:aws:iam::{ACCOUNT}:role/people/researchers"
MFA = {"aws:MultiFactorAuthPresent": "true"}
SM = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:"
# (role, verdict, who asks, what comes with the request)
CASES: list[tuple[str, bool, str, dict[str, str]]] = [
    ("Engineer", True, PEOPLE, MFA),
    ("Engineer", False, PEOPLE, {"aws:MultiFactorAuthPresent": "false"}),
    ("Engineer", False, f"arn:aws:iam::{ACCOUNT}:role/people/others", MFA),
    ("Engineer", False, "arn:aws:iam::999999999999:role/people/researchers", MFA),
    ("ImageApprover", True, f"arn:aws:iam::{ACCOUNT}:role/people/release-managers", MFA),
    ("ImageApprover", False, f"arn:aws:iam::{ACCOUNT}:role/people/release-managers", {}),
    ("ImageApprover", False, PEOPLE, MFA),
    ("OnCall", True, f"arn:aws:iam::{ACCOUNT}:role/people/on-call", MFA),
    ("OnCall", False, f"arn:aws:iam::{ACCOUNT}:role/people/on-call", {}),
    ("OnCall", False, PEOPLE, MFA),
    ("PlatformCi", True, f"arn:aws:iam::{ACCOUNT}:role/pipelines/platform", {}),
    ("PlatformCi", False, PEOPLE, {}),
]
SERVICES: list[tuple[str, str, str]] = [
    ("Training", "sagemaker.amazonaws.com", SM + "training-job/a"),
    ("HyperPodNode", "sagemaker.amazonaws.com", SM + "cluster/abcdefghijkl"),
    ("HyperPodController", "sagemaker.amazonaws.com", SM + "cluster/abcdefghijkl"),
    (
        "ImageBuild",
        "codebuild.amazonaws.com",
        f"arn:aws:codebuild:us-east-1:{ACCOUNT}:project/temper-all-images",
    ),
    (
        "BedrockImport",
        "bedrock.amazonaws.com",
        f"arn:aws:bedrock:us-east-1:{ACCOUNT}:model-import-job/a",
    ),
]


def _trust(roles: ResolvedRoles, role: str) -> tuple[str, dict[str, Any]]:
    logical_id = roles.role(role)
    document = roles.resource("security", logical_id)["Properties"]["AssumeRolePolicyDocument"]
    resolved: dict[str, Any] = roles.resolve("security", document)
    return f"arn:aws:iam::{ACCOUNT}:role/{logical_id}", resolved


def _assume(
    roles: ResolvedRoles, role: str, principal: str, context: dict[str, str]
) -> dict[str, Any]:
    arn, trust = _trust(roles, role)
    may = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}],
    }
    service = principal.endswith(".amazonaws.com")
    return {
        "request": {
            "principal": principal,
            "action": "sts:AssumeRole",
            "resource": {"resource": arn, "accountId": ACCOUNT},
            "contextVariables": context,
        },
        "identityPolicies": [] if service else [{"name": "may", "policy": may}],
        "serviceControlPolicies": [],
        "resourceControlPolicies": [],
        "resourcePolicy": trust,
    }


def test_people_become_what_they_are_named_for(everything: Assembly) -> None:
    roles = ResolvedRoles(everything)
    verdicts = simulated([_assume(roles, role, who, context) for role, _, who, context in CASES])
    found = [
        (case[0], v["verdict"] == "Allowed", *case[2:])
        for case, v in zip(CASES, verdicts, strict=True)
    ]
    assert [v["errors"] for v in verdicts if v["verdict"] == "Error"] == []
    assert found == CASES


@pytest.mark.parametrize("own", [True, False], ids=["our account", "another account"])
def test_services_act_for_our_resources_only(everything: Assembly, own: bool) -> None:
    roles = ResolvedRoles(everything)
    simulations = []
    for role, service, source in SERVICES:
        arn = source if own else source.replace(ACCOUNT, "999999999999")
        context = {**(OURS if own else THEIRS), "aws:SourceArn": arn}
        simulations.append(_assume(roles, role, service, context))
    verdicts = simulated(simulations)
    assert [v["errors"] for v in verdicts if v["verdict"] == "Error"] == []
    assert {v["verdict"] == "Allowed" for v in verdicts} == {own}
