"""IAM policies of the role that CloudFormation deploys with, in place of AdministratorAccess.

Generated from what the templates create: the actions are those that the resource schemas of
CloudFormation list for each type. Run `make execution-policies ENV=prod`.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from stacks.errors import SettingsError
from stacks.settings import Environment, read_environment

# Types whose schema lists no permissions: actions of their API.
# docs.aws.amazon.com/service-authorization/latest/reference/
UNLISTED = {
    "AWS::FSx::FileSystem": (
        *("fsx:CreateFileSystem", "fsx:DeleteFileSystem", "fsx:DescribeFileSystems"),
        *("fsx:ListTagsForResource", "fsx:TagResource", "fsx:UntagResource"),
        *("fsx:UpdateFileSystem", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"),
        *("ec2:DescribeSecurityGroups", "ec2:DescribeVpcs", "iam:CreateServiceLinkedRole"),
        *("kms:CreateGrant", "kms:DescribeKey"),
    ),
    "AWS::CodeBuild::Project": (
        *("codebuild:BatchGetProjects", "codebuild:CreateProject", "codebuild:DeleteProject"),
        *("codebuild:UpdateProject", "iam:PassRole"),
    ),
    "Custom::": ("lambda:GetFunction", "lambda:InvokeFunction"),
}
# Actions whose schema names the API operation, where IAM has another name for it.
# docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
BY_IAM_NAME = {
    "AWS::S3::Bucket": (
        *("s3:PutBucketObjectLockConfiguration", "s3:PutEncryptionConfiguration"),
        *("s3:PutLifecycleConfiguration", "s3:PutReplicationConfiguration"),
    ),
}
# Every template reads the version of the bootstrap stack, and functions their code from its bucket.
ALWAYS = ("s3:GetObject", "ssm:GetParameters")
# Services without a Region of their own, whose calls a Region condition would deny.
GLOBAL = {"billing", "budgets", "ce", "organizations"}
WITH_BOUNDARY = {
    *("iam:AttachRolePolicy", "iam:CreateRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy"),
    *("iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"),
}
# Actions that schemas list and that no template needs: users, groups, and a role's freedom.
NEVER = re.compile(r"iam:(\w*(User|Group)\w*|DeleteRolePermissionsBoundary)$")
MAXIMUM_CHARACTERS = 6144
LINKED_SERVICES = (
    *("eks.amazonaws.com", "fsx.amazonaws.com", "hyperpod.sagemaker.amazonaws.com"),
    *("pullthroughcache.ecr.amazonaws.com", "rds.amazonaws.com"),
    "sagemaker.application-autoscaling.amazonaws.com",
    "s3.data-source.lustre.fsx.amazonaws.com",
)


def required_actions(types: Iterable[str], region: str) -> set[str]:
    """Return the actions that CloudFormation needs for resources of these types.

    Raises:
        ValueError: A type whose actions are not known.
    """
    actions = set(ALWAYS)
    for resource_type in types:
        key = "Custom::" if resource_type.startswith("Custom::") else resource_type
        if key in UNLISTED:
            actions |= set(UNLISTED[key])
            continue
        schema: Any = PROVIDER_SCHEMA_MANAGER.get_resource_schema(region, resource_type).schema
        if not schema.get("handlers"):
            raise ValueError(f"the schema of {resource_type} lists no permissions; add it here")
        actions |= set(BY_IAM_NAME.get(resource_type, ()))
        for handler in schema["handlers"].values():
            actions |= {_normal(action) for action in handler.get("permissions", ())}
    return {
        action
        for action in actions
        if re.fullmatch(r"[a-z0-9-]+:[A-Za-z]+", action) and not NEVER.match(action)
    }


def _normal(action: str) -> str:
    service, _, name = action.partition(":")
    return f"{service.lower()}:{name}"


def execution_policies(
    environment: Environment, account: str, types: Iterable[str], boundary: str
) -> list[dict[str, Any]]:
    """Return policy documents, each within the size of a managed policy.

    Args:
        environment: The environment.
        account: Its account.
        types: Types of all resources of its templates.
        boundary: ARN of the permissions boundary of its roles.
    """
    actions = required_actions(types, environment.region)
    statements = [
        *_iam_statements(environment, account, actions, boundary),
        *_service_statements(environment, actions),
    ]
    documents: list[dict[str, Any]] = []
    for statement in statements:
        if not documents or _size([*documents[-1]["Statement"], statement]) > MAXIMUM_CHARACTERS:
            documents.append({"Version": "2012-10-17", "Statement": []})
        documents[-1]["Statement"].append(statement)
    return documents


def _size(statements: list[dict[str, Any]]) -> int:
    document = {"Version": "2012-10-17", "Statement": statements}
    return len(json.dumps(document, separators=(",", ":")))


def _service_statements(environment: Environment, actions: set[str]) -> Iterator[dict[str, Any]]:
    services = sorted({action.partition(":")[0] for action in actions} - {"iam"})
    for service in services:
        statement: dict[str, Any] = {
            "Effect": "Allow",
            "Action": sorted(a for a in actions if a.partition(":")[0] == service),
            "Resource": "*",
        }
        if service not in GLOBAL:
            region = {"aws:RequestedRegion": environment.region}
            statement["Condition"] = {"StringEquals": region}
        yield statement


def _iam_statements(
    environment: Environment, account: str, actions: set[str], boundary: str
) -> Iterator[dict[str, Any]]:
    root, path = f"arn:aws:iam::{account}", environment.security.role_path
    roles, policies = f"{root}:role{path}{environment.prefix}-*", f"{root}:policy"
    policies = f"{policies}/{environment.prefix}-*"
    ours = {action for action in actions if action.startswith("iam:")}
    condition = {"StringEquals": {"iam:PermissionsBoundary": boundary}}
    yield _allow("RolesWithBoundary", ours & WITH_BOUNDARY, roles, condition)
    linked = {"iam:CreateServiceLinkedRole"}
    providers = {action for action in ours if "OpenIDConnectProvider" in action}
    on_policies = {a for a in ours if re.search(r"Polic(y|ies)(Version|Versions)?$", a)}
    on_policies = {a for a in on_policies if "Role" not in a}
    yield _allow("Policies", on_policies, policies)
    yield _allow("Roles", ours - WITH_BOUNDARY - linked - providers - on_policies, roles)
    yield {
        "Sid": "BoundaryStays",
        "Effect": "Deny",
        "Action": ["iam:CreatePolicyVersion", "iam:DeletePolicy*", "iam:SetDefaultPolicyVersion"],
        "Resource": boundary,
    }
    if linked & ours:
        names = {"StringEquals": {"iam:AWSServiceName": list(LINKED_SERVICES)}}
        yield _allow("LinkedRoles", linked, f"{root}:role/aws-service-role/*", names)
        # FSx attaches a policy to the role that it creates for each linked bucket.
        lustre = f"{root}:role/aws-service-role/{LINKED_SERVICES[-1]}/*"
        yield _allow("LustreRoles", {"iam:AttachRolePolicy", "iam:PutRolePolicy"}, lustre)
    if providers:
        yield _allow("Providers", providers, f"{root}:oidc-provider/*")


def _allow(
    sid: str, actions: set[str], resource: str, condition: dict[str, Any] | None = None
) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": sorted(actions),
        "Resource": resource,
    }
    return statement | ({"Condition": condition} if condition else {})


def main() -> None:
    """Write the policies of an environment next to its templates, and the commands to use them."""
    name, out = sys.argv[1], Path(sys.argv[2])
    try:
        environment = read_environment(Path("environments"), name)
    except SettingsError as error:
        sys.exit(str(error))
    setting, account = environment.security.permission_boundary, environment.account
    if setting == "none" or account is None:
        sys.exit(
            f"environments/{name}.yaml: execution policies name the account and a boundary, "
            "without which the deployment could give itself any permission; set account and "
            "security.permission_boundary"
        )
    policy = f"policy/{environment.prefix}-boundary" if setting == "managed" else setting
    boundary = policy if policy.startswith("arn:") else f"arn:aws:iam::{account}:{policy}"
    types = {
        resource["Type"]
        for file in sorted(out.glob(f"{environment.prefix}-*.template.json"))
        for resource in json.loads(file.read_text(encoding="utf-8"))["Resources"].values()
    }
    arns = []
    for index, document in enumerate(execution_policies(environment, account, types, boundary), 1):
        policy_name = f"cdk-{environment.prefix}-{index}"
        file = out / f"{policy_name}.json"
        file.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
        arns.append(f"arn:aws:iam::{account}:policy/{policy_name}")
        sys.stdout.write(
            f"aws iam create-policy --policy-name {policy_name} --policy-document file://{file}\n"
        )
    sys.stdout.write(f"make bootstrap ENV={name} POLICIES={','.join(arns)}\n")


if __name__ == "__main__":
    main()
