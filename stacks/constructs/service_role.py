"""IAM role that an AWS service assumes on behalf of this account's resources only."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct


class ServiceRole(Construct):
    """Role whose trust policy requires this account, and the resource if known, as the source.

    Permissions are in a managed policy next to the role instead of in the role itself. A key policy
    can
    then name the role, and the policy of the role the key, without a circular dependency.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        service: str,
        description: str,
        statements: Sequence[iam.PolicyStatement] = (),
        source_arns: Sequence[str] = (),
    ) -> None:
        super().__init__(scope, id)
        account = cdk.Stack.of(self).account
        conditions: dict[str, dict[str, object]] = {"StringEquals": {"aws:SourceAccount": account}}
        if source_arns:
            conditions["ArnLike"] = {"aws:SourceArn": list(source_arns)}
        self.role = iam.Role(
            self,
            "Role",
            description=description,
            assumed_by=iam.ServicePrincipal(service, conditions=conditions),
            max_session_duration=cdk.Duration.hours(12),
        )
        if statements:
            self.attach_policy(*statements)

    def attach_policy(self, *statements: iam.PolicyStatement) -> None:
        """Attach the permissions of the role.

        Called once, after the keys that the statements name have been created.
        """
        iam.ManagedPolicy(self, "Policy", statements=list(statements), roles=[self.role])
