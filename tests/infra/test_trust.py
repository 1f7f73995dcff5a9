"""Tests of who may assume which role: services for this account's resources, and named people."""

import json
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
    ("ModelApprover", True, f"arn:aws:iam::{ACCOUNT}:role/people/model-owners", MFA),
    ("ModelApprover", False, f"arn:aws:iam::{ACCOUNT}:role/people/model-owners", {}),
    ("ModelApprover", False, PEOPLE, MFA),
    ("OnCall", True, f"arn:aws:iam::{ACCOUNT}:role/people/on-call", MFA),
    ("OnCall", False, f"arn:aws:iam::{ACCOUNT}:role/people/on-call", {}),
    ("OnCall", False, PEOPLE, MFA),
    ("PlatformCi", True, f"arn:aws:iam::{ACCOUNT}:role/pipelines/platform", {}),
    ("PlatformCi", False, PEOPLE, {}),
]
SERVICES: list[tuple[str, str, str]] = [
    ("Training", "sagemaker.amazonaws.com", SM + "training-job/a"),
    ("JobWithSecrets", "sagemaker.amazonaws.com", SM + "training-job/a"),
    ("HyperPodNode", "sagemaker.amazonaws.com", SM + "cluster/abcdefghijkl"),
    ("HyperPodController", "sagemaker.amazonaws.com", SM + "cluster/abcdefghijkl"),
    (
        "ImageBuild",
        "codebuild.amazonaws.com",
        f"arn:aws:codebuild:us-east-1:{ACCOUNT}:project/temper-all-images",
    ),
    (
        "BedrockCustomization",
        "bedrock.amazonaws.com",
        f"arn:aws:bedrock:us-east-1:{ACCOUNT}:model-customization-job/a",
    ),
    (
        "BedrockImport",
        "bedrock.amazonaws.com",
        f"arn:aws:bedrock:us-east-1:{ACCOUNT}:model-import-job/a",
    ),
]


ISSUER = "token.actions.githubusercontent.com"
GITHUB = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"
REPOSITORY = "repo:example/platform"
MAIN = "refs/heads/main"
# (role, verdict, subject, branch or tag, audience) of the token of a job.
# https://docs.github.com/en/actions/reference/security/oidc#example-subject-claims
TOKENS: list[tuple[str, bool, str, str, str]] = [
    ("PlatformCi", True, f"{REPOSITORY}:environment:production", MAIN, "sts.amazonaws.com"),
    ("PlatformCi", False, f"{REPOSITORY}:environment:staging", MAIN, "sts.amazonaws.com"),
    ("PlatformCi", False, f"{REPOSITORY}:environment:production", MAIN, "another"),
    (
        *("PlatformCi", False, f"{REPOSITORY}:environment:production"),
        *("refs/heads/feature", "sts.amazonaws.com"),
    ),
    ("PlatformCi", False, f"{REPOSITORY}:ref:{MAIN}", MAIN, "sts.amazonaws.com"),
    ("PlatformCi", False, f"{REPOSITORY}:pull_request", "refs/pull/1/merge", "sts.amazonaws.com"),
    ("PlatformCi", False, "repo:example/other:environment:production", MAIN, "sts.amazonaws.com"),
    ("PlatformCi", False, "repo:fork/platform:environment:production", MAIN, "sts.amazonaws.com"),
    (
        *("PlatformCi", False, "repo:example@1/platform@2:environment:production"),
        *(MAIN, "sts.amazonaws.com"),
    ),
    ("PlatformDiff", True, f"{REPOSITORY}:pull_request", "refs/pull/1/merge", "sts.amazonaws.com"),
    ("PlatformDiff", False, f"{REPOSITORY}:pull_request", "refs/pull/1/merge", "another"),
    (
        *("PlatformDiff", False, "repo:fork/platform:pull_request"),
        *("refs/pull/1/merge", "sts.amazonaws.com"),
    ),
    ("PlatformDiff", False, f"{REPOSITORY}:ref:{MAIN}", MAIN, "sts.amazonaws.com"),
    ("Engineer", False, f"{REPOSITORY}:environment:production", MAIN, "sts.amazonaws.com"),
    ("ImageApprover", False, f"{REPOSITORY}:environment:production", MAIN, "sts.amazonaws.com"),
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


def _web_identity(
    roles: ResolvedRoles, role: str, subject: str, ref: str, audience: str
) -> dict[str, Any]:
    arn, trust = _trust(roles, role)
    claims = {f"{ISSUER}:sub": subject, f"{ISSUER}:ref": ref, f"{ISSUER}:aud": audience}
    # The simulator's list of condition keys has `sub` and `aud` of Google only, and drops others.
    for claim in ("sub", "aud"):
        known = f"accounts.google.com:{claim}"
        claims[known] = claims.pop(f"{ISSUER}:{claim}")
        trust = json.loads(json.dumps(trust).replace(f"{ISSUER}:{claim}", known))
    return {
        "request": {
            "principal": GITHUB,
            "action": "sts:AssumeRoleWithWebIdentity",
            "resource": {"resource": arn, "accountId": ACCOUNT},
            "contextVariables": claims,
        },
        "identityPolicies": [],
        "serviceControlPolicies": [],
        "resourceControlPolicies": [],
        "resourcePolicy": trust,
    }


def test_only_jobs_of_the_repository_become_the_pipeline(everything: Assembly) -> None:
    roles = ResolvedRoles(everything)
    verdicts = simulated([_web_identity(roles, role, *claims) for role, _, *claims in TOKENS])
    assert [v["ignored"] for v in verdicts if v["ignored"]] == []
    assert [v["errors"] for v in verdicts if v["verdict"] == "Error"] == []
    found = [
        (token[0], v["verdict"] == "Allowed", *token[2:])
        for token, v in zip(TOKENS, verdicts, strict=True)
    ]
    assert found == TOKENS


def test_no_condition_on_a_token_has_a_wildcard(everything: Assembly) -> None:
    statements = [
        statement
        for role in everything.of_type("AWS::IAM::Role")
        for statement in role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        if "Federated" in statement["Principal"]
    ]
    assert len(statements) == 2
    for statement in statements:
        assert list(statement["Condition"]) == ["StringEquals"]
        assert {f"{ISSUER}:aud", f"{ISSUER}:sub"} <= set(statement["Condition"]["StringEquals"])


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
