"""Properties that every role of the platform gets: the permissions boundary and the path."""

import aws_cdk as cdk
from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from constructs import IConstruct

from stacks.security import SecurityStack
from stacks.settings import Environment


def apply_permissions_boundary(scope: IConstruct, security: SecurityStack) -> None:
    """Give every role of the platform its boundary, and make it wait for the boundary to exist.

    The boundary is named by its ARN as text, from which CloudFormation cannot see a dependency;
    CreateRole refuses a boundary that does not exist yet. Called last, when all roles are defined.

    Args:
        scope: The application.
        security: Stack of the boundary.
    """
    arn = permissions_boundary_arn(security.environment_settings)
    if not arn:
        return
    applied = iam.ManagedPolicy.from_managed_policy_arn(security, "AppliedBoundary", arn)
    iam.PermissionsBoundary.of(scope).apply(applied)
    if security.boundary is None:
        return
    for node in scope.node.find_all():
        if isinstance(node, cdk.Stack) and node is not security:
            node.add_stack_dependency(security, "its policy is the boundary of all roles")
        if isinstance(node, iam.CfnRole) and cdk.Stack.of(node) is security:
            node.node.add_dependency(security.boundary)


def permissions_boundary_arn(environment: Environment) -> str | None:
    """Return the ARN of the permissions boundary that every role carries, or None."""
    setting = environment.security.permission_boundary
    if setting == "none":
        return None
    if setting.startswith("arn:"):
        return setting
    policy = f"policy/{environment.prefix}-boundary" if setting == "managed" else setting
    account = environment.account or Aws.ACCOUNT_ID
    return f"arn:{Aws.PARTITION}:iam::{account}:{policy}"


def apply_role_path(scope: IConstruct, environment: Environment) -> None:
    """Give every role of the platform its path. Called last, when all roles are defined.

    Args:
        scope: The application.
        environment: The environment, whose setting names the path.
    """
    if environment.security.role_path == "/":
        return  # the default of IAM; writing it out would change every template
    for node in scope.node.find_all():
        if isinstance(node, iam.CfnRole):
            node.path = environment.security.role_path
