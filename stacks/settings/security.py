"""Who may use the platform, and within which limits."""

from typing import Literal

from stacks.settings.section import ManagedPolicyArn, RoleArn, Section


class SecuritySettings(Section):
    """Principals of the human and CI roles, key administrators, the permission boundary."""

    key_administrators: tuple[RoleArn, ...] = ()
    engineers: tuple[RoleArn, ...] = ()
    require_mfa: bool = True
    platform_ci: tuple[RoleArn, ...] = ()
    permission_boundary: Literal["none", "managed"] | ManagedPolicyArn = "none"
    inter_container_encryption: bool = False
