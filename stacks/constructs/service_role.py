"""A role that an AWS service takes on for us, and for nobody else's resource."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct


class ServiceRole(Construct):
    """A role whose trust names our account (and, where known, the resource) as the source.

    Permissions live in a managed policy beside the role, so that a key's policy may name the role
    and the role's policy the key without a cycle.
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
        """Gives the role its permissions; called once, when the keys it names exist."""
        iam.ManagedPolicy(self, "Policy", statements=list(statements), roles=[self.role])
