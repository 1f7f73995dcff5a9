"""Permissions of the deployment pipeline: assume the roles of `cdk bootstrap`, nothing else."""

from aws_cdk import aws_iam as iam

from stacks.naming import ResourceNames
from stacks.policies.iam_statements import allow, role_arn_in_account

KINDS = ("deploy-role", "file-publishing-role", "image-publishing-role", "lookup-role")
# `cdk diff --method=template` reads the deployed templates by the lookup role, which may only read,
# and may decrypt nothing.
READ_ONLY = ("lookup-role",)


def statements(
    names: ResourceNames, qualifier: str, kinds: tuple[str, ...] = KINDS
) -> list[iam.PolicyStatement]:
    """Return the permissions to assume the bootstrap roles and to read stacks and their version.

    Args:
        names: Names of the environment.
        qualifier: Qualifier that the account was bootstrapped with.
        kinds: Bootstrap roles that may be assumed.
    """
    suffix = f"{names.account}-{names.region}"
    return [
        allow(
            "AssumeBootstrapRoles",
            ["sts:AssumeRole"],
            [role_arn_in_account(names, f"cdk-{qualifier}-{kind}-{suffix}") for kind in kinds],
        ),
        allow(
            "ReadStacks",
            ["cloudformation:DescribeStackEvents", "cloudformation:DescribeStacks"],
            [names.arn("cloudformation", f"stack/{names.prefix}-*/*")],
        ),
        allow(
            "ReadBootstrapVersion",
            ["ssm:GetParameter"],
            [names.arn("ssm", f"parameter/cdk-bootstrap/{qualifier}/version")],
        ),
    ]
