"""Who may use the platform, and within which limits."""

from typing import Literal

from pydantic import Field

from stacks.settings.base import ManagedPolicyArn, RoleArn, SettingsSection


class SecuritySettings(SettingsSection):
    """Principals of the human and CI roles, key administrators, the permission boundary."""

    key_administrators: tuple[RoleArn, ...] = Field(
        (), description="who administers keys; none: the account, through IAM"
    )
    engineers: tuple[RoleArn, ...] = Field(
        (),
        description="who may assume the engineer role; none: whom their own policy lets",
    )
    require_mfa: bool = Field(True, description="the engineer role asks for a second factor")
    platform_ci: tuple[RoleArn, ...] = Field((), description="who may assume the deployment role")
    permission_boundary: Literal["none", "managed"] | ManagedPolicyArn = Field(
        "none", description="none, managed (ours), or the ARN of yours; on every role"
    )
    inter_container_encryption: bool = Field(
        False, description="jobs must encrypt traffic among their hosts; slows multi-host training"
    )
