"""Role that people or a deployment pipeline assume."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct


class AssumableRole(Construct):
    """Role for the named principals, or for identities of the account if none is named.

    A web identity, such as a job of GitHub Actions, counts as a named principal; it has no MFA.

    Naming no principal does not open the role: an identity of the account still needs a policy of
    its
    own that allows `sts:AssumeRole` on it.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        description: str,
        principals: Sequence[str],
        require_mfa: bool,
        web_identity: iam.WebIdentityPrincipal | None = None,
    ) -> None:
        super().__init__(scope, id)
        named: list[iam.PrincipalBase] = [iam.ArnPrincipal(arn) for arn in principals]
        if web_identity:
            named.append(web_identity)
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

    def attach_policy(self, id: str, *statements: iam.PolicyStatement) -> None:
        """Attach a managed policy.

        A role takes several, because one managed policy is limited to 6,144 characters.
        """
        iam.ManagedPolicy(self, id, statements=list(statements), roles=[self.role])
