"""A role that people, or a pipeline of theirs, assume."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct


class AssumableRole(Construct):
    """Assumable by the named principals; by the account's own identities when none is named.

    Naming none does not open the role: an identity of the account still needs a policy that lets
    it assume this role.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        description: str,
        principals: Sequence[str],
        require_mfa: bool,
    ) -> None:
        super().__init__(scope, id)
        named: list[iam.PrincipalBase] = [iam.ArnPrincipal(arn) for arn in principals]
        trusted: iam.IPrincipal = iam.CompositePrincipal(*(named or [iam.AccountRootPrincipal()]))
        if require_mfa:
            trusted = iam.PrincipalWithConditions(
                trusted, {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
            )
        self.role = iam.Role(
            self,
            "Role",
            description=description,
            assumed_by=trusted,
            max_session_duration=cdk.Duration.hours(8),
        )

    def allow(self, id: str, *statements: iam.PolicyStatement) -> None:
        """Attaches a policy; several, because one may have 6,144 characters at most."""
        iam.ManagedPolicy(self, id, statements=list(statements), roles=[self.role])
