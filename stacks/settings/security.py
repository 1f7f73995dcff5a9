"""Settings of access: principals, key administrators and the permissions boundary."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from stacks.settings.base import ManagedPolicyArn, RoleArn, SettingsSection


class GitHubSettings(SettingsSection):
    """Settings of the GitHub repository whose workflow deploys the platform."""

    repository: Annotated[
        str,
        StringConstraints(
            pattern=r"^([A-Za-z0-9-]+/[A-Za-z0-9._-]+|[A-Za-z0-9-]+@[0-9]+/[A-Za-z0-9._-]+@[0-9]+)$"
        ),
    ] = Field(description="OWNER/NAME, or OWNER@ID/NAME@ID as in the tokens of newer repositories")
    environment: Annotated[str, StringConstraints(pattern=r"^[^:*?]{1,255}$")] = Field(
        description="GitHub environment whose jobs deploy; its rules say who must approve them"
    )
    branch: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]{1,200}$")] = Field(
        "main", description="branch that is deployed"
    )
    create_provider: bool = Field(
        True, description="create the identity provider; false if the account has GitHub's already"
    )


class SecuritySettings(SettingsSection):
    """Settings of who may assume which role, key administrators and the boundary."""

    key_administrators: tuple[RoleArn, ...] = Field(
        (),
        description="roles that administer KMS keys; none: identities of the account that IAM "
        "allows",
    )
    engineers: tuple[RoleArn, ...] = Field(
        (),
        description="roles that may assume the engineer role; none: identities of the account "
        "that IAM allows",
    )
    require_mfa: bool = Field(True, description="require MFA to assume the engineer role")
    image_approvers: tuple[RoleArn, ...] = Field(
        (),
        description="roles that may assume the image approver role, with `images.approval`; "
        "none: identities of the account that IAM allows",
    )
    platform_ci: tuple[RoleArn, ...] = Field(
        (), description="roles that may assume the deployment role"
    )
    github: GitHubSettings | None = Field(
        None,
        description="GitHub repository whose workflow deploys: "
        "`{repository, environment, branch, create_provider}`",
    )
    permission_boundary: Literal["none", "managed"] | ManagedPolicyArn = Field(
        "none",
        description="permissions boundary of every role: none, managed (by the platform), or the "
        "ARN of your own",
    )
    inter_container_encryption: bool = Field(
        False,
        description="require encrypted traffic between the hosts of a job; slows multi-host "
        "training",
    )
