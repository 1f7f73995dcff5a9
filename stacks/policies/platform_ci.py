"""Platform CI: deploy through the roles that `cdk bootstrap` made, and hold nothing itself."""

from aws_cdk import aws_iam as iam

from stacks.naming import ResourceNames
from stacks.policies.iam_statements import allow, role_arn_in_account

KINDS = ("deploy-role", "file-publishing-role", "image-publishing-role", "lookup-role")


def statements(names: ResourceNames) -> list[iam.PolicyStatement]:
    """Assume the bootstrap roles; read stacks and the bootstrap version."""
    suffix = f"{names.account}-{names.region}"
    return [
        allow(
            "AssumeBootstrapRoles",
            ["sts:AssumeRole"],
            [role_arn_in_account(names, f"cdk-hnb659fds-{kind}-{suffix}") for kind in KINDS],
        ),
        allow(
            "ReadStacks",
            ["cloudformation:DescribeStackEvents", "cloudformation:DescribeStacks"],
            [names.arn("cloudformation", f"stack/{names.prefix}-*/*")],
        ),
        allow(
            "ReadBootstrapVersion",
            ["ssm:GetParameter"],
            [names.arn("ssm", "parameter/cdk-bootstrap/hnb659fds/version")],
        ),
    ]
