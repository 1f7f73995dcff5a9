"""Role that people or a deployment pipeline assume."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.settings.base import PERMISSION_SET


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
        sets = [p.removeprefix(PERMISSION_SET) for p in principals if p.startswith(PERMISSION_SET)]
        named: list[iam.PrincipalBase] = [
            iam.ArnPrincipal(arn) for arn in principals if not arn.startswith(PERMISSION_SET)
        ]
        if sets:
            named.append(_members_of(cdk.Stack.of(self), sets))
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


def _members_of(stack: cdk.Stack, permission_sets: Sequence[str]) -> iam.PrincipalWithConditions:
    """Return the roles that IAM Identity Center creates for permission sets.

    Their names end with 16 characters that change when a set is assigned again, and a principal
    cannot contain wildcards, so the principal is the account and a condition names the roles. The
    pattern fixes the number of characters: `*` would also admit `Researchers_Admin` where
    `Researchers` is meant. docs.aws.amazon.com/singlesignon/latest/userguide/
    referencingpermissionsets.html
    """
    reserved = f"arn:{stack.partition}:iam::{stack.account}:role/aws-reserved/sso.amazonaws.com/"
    suffix = "?" * 16
    patterns = [
        f"{reserved}{region}AWSReservedSSO_{name}_{suffix}"
        for name in permission_sets
        for region in ("", "*/")
    ]
    return iam.PrincipalWithConditions(
        iam.AccountRootPrincipal(), {"ArnLike": {"aws:PrincipalArn": patterns}}
    )
