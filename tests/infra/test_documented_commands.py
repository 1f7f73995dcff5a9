"""Tests that every documented command is allowed to the people who are told to type it."""

import ast
import re
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from tests.infra.conftest import ROOT, Assembly
from tests.infra.permissions.cases import Case
from tests.infra.permissions.commands import COMMANDS, ON_CALL, ROLES, TOOLS
from tests.infra.permissions.resolved import ResolvedRoles
from tests.infra.permissions.simulator import simulated, simulation

PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
CODE = re.compile(r"^ *```[^\n]*\n(.*?)^ *```|`((?:[^`\n]|\n(?!\n))+)`", re.MULTILINE | re.DOTALL)
OURS = re.compile(r"(?:^|[(;|]|&&|\bdo) *(?:make|temper) ([a-z][a-z-]+)", re.MULTILINE)
AWS = re.compile(r"\baws ([a-z][a-z0-9-]+) ([a-z][a-z0-9-]+)")
OTHER = re.compile(
    r"^ *(?:node_modules/\.bin/)?((?:kubectl|helm|cdk|lfs|scontrol) [a-z]+|sinfo|squeue)\b",
    re.MULTILINE,
)
CASES: list[Case] = [
    (user, True, *call) for user, calls in (*COMMANDS.values(), *TOOLS.values()) for call in calls
]
# Calls that stay denied to people on call, whatever a runbook suggests.
DENIED: list[tuple[str, str]] = [
    ("s3:GetObject", "{data}/set/train.jsonl"),
    ("s3:GetObject", "{models}/run/model"),
    ("s3:GetObject", "{runs}/run/checkpoints/1"),
    ("s3:PutObject", "{runs}/source/temper.zip"),
    ("kms:Decrypt", "{key:data}"),
    ("kms:Decrypt", "{key:models}"),
    ("kms:Decrypt", "{key:messages}"),
    ("kms:DisableKey", "{key:data}"),
    ("kms:ScheduleKeyDeletion", "{key:data}"),
    (
        "secretsmanager:GetSecretValue",
        "arn:aws:secretsmanager:us-east-1:111122223333:secret:temper-all/hub-token-AbCdEf",
    ),
    (
        "sagemaker:CreateTrainingJob",
        "arn:aws:sagemaker:us-east-1:111122223333:training-job/temper-all-a",
    ),
    ("sagemaker:StopTrainingJob", "arn:aws:sagemaker:us-east-1:111122223333:training-job/other-a"),
    ("sagemaker:UpdateEndpoint", "arn:aws:sagemaker:us-east-1:111122223333:endpoint/others"),
    ("sagemaker:DeleteEndpoint", "arn:aws:sagemaker:us-east-1:111122223333:endpoint/others"),
    ("sagemaker:InvokeEndpoint", "arn:aws:sagemaker:us-east-1:111122223333:endpoint/assistant"),
    ("sagemaker:DeleteCluster", "arn:aws:sagemaker:us-east-1:111122223333:cluster/abcdefghijkl"),
    ("bedrock:InvokeModel", "arn:aws:bedrock:us-east-1:111122223333:imported-model/a"),
    ("ssm:PutParameter", "arn:aws:ssm:us-east-1:111122223333:parameter/temper-all/images/gpu/uri"),
    ("ssm:StartSession", "arn:aws:ec2:us-east-1:111122223333:instance/i-1"),
    ("logs:DeleteLogGroup", "arn:aws:logs:us-east-1:111122223333:log-group:/temper/temper-all/a"),
    ("iam:AttachRolePolicy", "arn:aws:iam::111122223333:role/{role:OnCall}"),
    ("iam:DetachRolePolicy", "arn:aws:iam::111122223333:role/{role:Engineer}"),
    ("iam:PassRole", "arn:aws:iam::111122223333:role/{role:Training}"),
    (
        "rds:DeleteDBInstance",
        "arn:aws:rds:us-east-1:111122223333:db:temper-all-hyperpod-accounting",
    ),
    ("sns:Subscribe", "arn:aws:sns:us-east-1:111122223333:temper-all-monitoring-Pages"),
    ("events:DisableRule", "arn:aws:events:us-east-1:111122223333:rule/temper-all-a"),
    ("sagemaker:ExtendTrainingPlan", "*"),
    ("lambda:UpdateFunctionCode", "arn:aws:lambda:us-east-1:111122223333:function:temper-all-a"),
]
# Methods of boto3 that transfer files, and operations that IAM knows by another name.
AUTHORIZED_AS = {
    "upload_file": "s3:PutObject",
    "download_file": "s3:GetObject",
    "head_object": "s3:GetObject",
    "list_objects_v2": "s3:ListBucket",
    "delete_objects": "s3:DeleteObject",
    "list_service_quotas": "servicequotas:ListServiceQuotas",
}
SERVICES = (
    "bedrock", "codebuild", "ec2", "ecr", "eks", "fsx", "iam", "logs", "pricing", "s3", "sagemaker",
    "secretsmanager", "service-quotas", "ssm", "sts",
)  # fmt: skip
# Modules whose calls need rights of a person's own in the account.
FOR_ADMINISTRATORS = (
    "launch/images/local_build.py",  # `temper publish-image --local` pushes without CodeBuild
    "launch/doctor/linked_role_checks.py",  # before the first deployment; skipped if denied
)
WITHOUT_PERMISSION = {"get_caller_identity"}


def _documented() -> tuple[set[str], set[str]]:
    """Return the commands of temper and make, and those of other tools, of all pages."""
    ours, tools = set(), set()
    for page in PAGES:
        for fenced, inline in CODE.findall(page.read_text(encoding="utf-8")):
            code = fenced or inline
            ours |= set(OURS.findall(code))
            tools |= {f"aws {service} {command}" for service, command in AWS.findall(code)}
            tools |= set(OTHER.findall(code))
    return ours, tools


def test_every_documented_command_has_its_calls_and_nothing_else_does() -> None:
    ours, tools = _documented()
    assert len(tools) > 30
    assert sorted(ours - set(COMMANDS)) == [], "add them to tests/infra/permissions/commands.py"
    assert sorted(tools - set(TOOLS)) == [], "add them to tests/infra/permissions/commands.py"
    assert sorted(set(COMMANDS) - ours) == [], "no page mentions them"
    assert sorted(set(TOOLS) - tools) == [], "no page mentions them"


def test_people_with_simulated_roles_have_calls() -> None:
    users = {command: user for command, (user, calls) in {**COMMANDS, **TOOLS}.items() if calls}
    assert set(users.values()) == set(ROLES)
    known = {*ROLES, "administrator", "local", "node"}
    assert {user for user, _ in (*COMMANDS.values(), *TOOLS.values())} <= known


def test_everything_in_a_runbook_is_for_people_on_call() -> None:
    for page in (ROOT / "docs" / "runbooks").glob("*.md"):
        for service, command in AWS.findall(page.read_text(encoding="utf-8")):
            user, _ = TOOLS[f"aws {service} {command}"]
            assert user in (ON_CALL, "administrator"), f"{page.name}: aws {service} {command}"


@pytest.fixture(scope="module")
def verdicts(everything: Assembly) -> list[dict[str, Any]]:
    """Results of all calls, and of what people on call may not do."""
    roles = ResolvedRoles(everything)
    denied: list[Case] = [(ON_CALL, False, *each, {}) for each in DENIED]
    return simulated([simulation(roles, case) for case in (*CASES, *denied)])


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda i: f"{CASES[i][0]} {CASES[i][2]}")
def test_the_command_is_allowed(verdicts: list[dict[str, Any]], index: int) -> None:
    verdict = verdicts[index]
    assert verdict["verdict"] == "Allowed", (CASES[index], verdict)
    assert [key for key in verdict["ignored"] if key in CASES[index][4]] == []


@pytest.mark.parametrize("index", range(len(DENIED)), ids=lambda i: " ".join(DENIED[i]))
def test_people_on_call_may_not(verdicts: list[dict[str, Any]], index: int) -> None:
    verdict = verdicts[len(CASES) + index]
    assert verdict["verdict"] in ("ImplicitlyDenied", "ExplicitlyDenied"), verdict


def test_the_calls_of_the_aws_commands_are_their_operations() -> None:
    other_names = {"aws budgets describe-budgets", "aws lambda invoke", "aws logs tail"}
    for command, (_, calls) in TOOLS.items():
        if calls and command not in other_names:
            _, _, operation = command.split(" ")
            assert operation in {xform_name(c[0].partition(":")[2], "-") for c in calls}, command


def test_every_call_of_the_launcher_belongs_to_a_command() -> None:
    called = {call[0] for user, calls in COMMANDS.values() if user in ROLES for call in calls}
    files = [file for folder in ("launch", "temper") for file in (ROOT / folder).rglob("*.py")]
    for file in FOR_ADMINISTRATORS:
        files.remove(ROOT / file)
    methods = {(file, method) for file in files for method in _called_methods(file)}
    actions = _actions_of_methods()
    assert len({method for _, method in methods if method in actions}) > 20
    missing = {
        f"{file.relative_to(ROOT)}: {method}"
        for file, method in methods
        if method in actions and not actions[method] & called
    }
    assert sorted(missing) == []


def _called_methods(file: Path) -> set[str]:
    """Return the names of the methods that a module calls, paginated operations included."""
    called = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, first = node.func.attr, node.args[0] if node.args else None
            if name in ("get_paginator", "get_waiter") and isinstance(first, ast.Constant):
                name = str(first.value)
            called.add(name)
    return called


def _actions_of_methods() -> dict[str, set[str]]:
    """Return the IAM actions of each method of the services that the launcher uses."""
    session = botocore.session.get_session()
    actions: dict[str, set[str]] = {}
    for service in SERVICES:
        for operation in session.get_service_model(service).operation_names:
            method = xform_name(operation)
            action = AUTHORIZED_AS.get(method, f"{service}:{operation}")
            actions.setdefault(method, set()).add(action)
    for method in ("upload_file", "download_file"):
        actions[method] = {AUTHORIZED_AS[method]}
    return {m: found for m, found in actions.items() if m not in WITHOUT_PERMISSION}
