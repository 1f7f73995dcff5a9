"""Access of GitHub Actions to the account by OpenID Connect, without stored keys."""

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.settings.security import GitHubSettings

ISSUER = "token.actions.githubusercontent.com"
AUDIENCE = "sts.amazonaws.com"


class GitHubOidc(Construct):
    """Identity provider of GitHub's tokens, and the principals for jobs of one repository.

    The claims are documented at
    https://docs.github.com/en/actions/reference/security/oidc and the condition keys at
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html.
    Every condition is an equality: a wildcard would let other branches and pull requests in.
    """

    def __init__(
        self, scope: Construct, id: str, *, account: str, settings: GitHubSettings
    ) -> None:
        super().__init__(scope, id)
        self._settings = settings
        self._arn = f"arn:{Aws.PARTITION}:iam::{account}:oidc-provider/{ISSUER}"
        self.provider: iam.CfnOIDCProvider | None = None
        if settings.create_provider:
            self.provider = iam.CfnOIDCProvider(
                self, "Provider", url=f"https://{ISSUER}", client_id_list=[AUDIENCE]
            )

    def deployments(self) -> iam.WebIdentityPrincipal:
        """Return the principal of jobs in the GitHub environment, on the branch."""
        return self._principal(
            f"environment:{self._settings.environment}",
            {f"{ISSUER}:ref": f"refs/heads/{self._settings.branch}"},
        )

    def pull_requests(self) -> iam.WebIdentityPrincipal:
        """Return the principal of jobs of pull requests.

        GitHub gives no token to a pull request from a fork, and the token of a workflow in the fork
        names the fork.
        """
        return self._principal("pull_request", {})

    def _principal(self, context: str, conditions: dict[str, str]) -> iam.WebIdentityPrincipal:
        subject = f"repo:{self._settings.repository}:{context}"
        required = {f"{ISSUER}:aud": AUDIENCE, f"{ISSUER}:sub": subject, **conditions}
        return iam.WebIdentityPrincipal(self._arn, {"StringEquals": required})
