"""Settings of access: principals, key administrators and the permissions boundary."""

from typing import Literal

from pydantic import Field

from stacks.settings.base import ManagedPolicyArn, RoleArn, SettingsSection


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
    require_mfa: bool = Field(
        True, description="require MFA to assume the engineer, approver and on-call roles"
    )
    on_call: tuple[RoleArn, ...] = Field(
        (),
        description="roles that may assume the on-call role; none: identities of the account that "
        "IAM allows",
    )
    image_approvers: tuple[RoleArn, ...] = Field(
        (),
        description="roles that may assume the image approver role, with `images.approval`; "
        "none: identities of the account that IAM allows",
    )
    platform_ci: tuple[RoleArn, ...] = Field(
        (), description="roles that may assume the deployment role"
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
