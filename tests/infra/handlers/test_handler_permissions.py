"""Tests that the roles of the functions allow every call in their code.

A call that a role denies fails at night, in the one function that was to tell of it.
"""

import re
from pathlib import Path

import pytest

from stacks import handlers
from tests.infra.conftest import Assembly

FOLDER = Path(handlers.__file__).parent
CLIENTS = (
    "sagemaker|cloudwatch|logs|sns|events|bedrock|dynamodb|autoscaling|cloudformation|codepipeline"
)
# `sagemaker.list_tags(…)`, `client("sns").publish(…)`, and the operation of a paginator.
CALL = re.compile(rf'(?:\b({CLIENTS})|client\("({CLIENTS})"\))\s*\.(\w+)\((?:"(\w+)")?')
# Names of clients in the code, where IAM has another prefix.
IAM_PREFIXES = {"autoscaling": "application-autoscaling"}
NO_OPERATIONS = {"meta", "exceptions"}


def calls(*modules: str) -> set[str]:
    """Return the IAM actions of the calls in some modules."""
    actions = set()
    for module in modules:
        for path in sorted(FOLDER.glob(module)):
            for match in CALL.finditer(path.read_text(encoding="utf-8")):
                service, method = match[1] or match[2], match[3]
                operation = match[4] if method == "get_paginator" else method
                if operation not in NO_OPERATIONS:
                    prefix = IAM_PREFIXES.get(service, service)
                    actions.add(f"{prefix}:{operation.title().replace('_', '')}")
    return actions


@pytest.mark.parametrize(
    ("stack", "policy", "modules", "some"),
    [
        ("security", "MonitoringPolicy", ["monitor/*.py"], "sagemaker:ListTags"),
        (
            "monitoring",
            "NewsNotifyPolicy",
            ["publish_event.py", "event_*.py", "page_message.py", "monitor/scope.py"],
            "dynamodb:UpdateItem",
        ),
        (
            "monitoring",
            "PagerPagePolicy",
            ["enrich_alarm_page.py", "page_message.py"],
            "dynamodb:GetItem",
        ),
        (
            "bedrock",
            "UndeployPolicy",
            ["undeploy/main.py", "undeploy/rule.py", "undeploy/throughput.py"],
            "bedrock:DeleteProvisionedModelThroughput",
        ),
        (
            "serving",
            "RemovalUndeployPolicy",
            ["undeploy/main.py", "undeploy/rule.py", "undeploy/endpoints.py"],
            "cloudformation:DeleteStack",
        ),
        ("security", "RetrainingPolicy", ["retraining/*.py"], "sagemaker:StartPipelineExecution"),
    ],
)
def test_a_role_allows_what_its_code_calls(
    everything: Assembly, stack: str, policy: str, modules: list[str], some: str
) -> None:
    needed = calls(*modules)
    assert some in needed, "the calls are not found in the code any more"
    [resource] = [
        r["Properties"]["PolicyDocument"]["Statement"]
        for name, r in everything.templates[stack]["Resources"].items()
        if name.startswith(policy) and r["Type"] == "AWS::IAM::ManagedPolicy"
    ]
    allowed: set[str] = set()
    for statement in resource:
        if statement["Effect"] == "Allow":
            action = statement["Action"]
            allowed |= {action} if isinstance(action, str) else set(action)
    assert needed - allowed == set()
