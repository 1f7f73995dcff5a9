"""Settings of access: principals, key administrators and the permissions boundary."""

from typing import Annotated

from pydantic import Field

from stacks.settings.base import (
    BoundaryPolicy,
    KmsKeyArn,
    Principal,
    RoleArn,
    SettingsSection,
    matching,
)

RolePath = Annotated[
    str,
    matching(r"/([A-Za-z0-9+=,.@_-]+/)*", "the path of a role, which begins and ends with /"),
]


class KmsKeyArns(SettingsSection):
    """KMS keys that exist, in place of the platform's. Their policies are their owner's."""

    data: KmsKeyArn | None = Field(
        None,
        description="your KMS key of data, runs, secrets, Lustre and volumes; see "
        "[Your own KMS keys](existing-resources.md#your-own-kms-keys)",
    )
    models: KmsKeyArn | None = Field(None, description="your KMS key of models and images")
    logs: KmsKeyArn | None = Field(None, description="your KMS key of log groups and the trail")
    messages: KmsKeyArn | None = Field(
        None, description="your KMS key of topics, queues, tables and functions"
    )


class GitHubSettings(SettingsSection):
    """Settings of the GitHub repository whose workflow deploys the platform."""

    repository: Annotated[
        str,
        matching(
            r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+|[A-Za-z0-9-]+@[0-9]+/[A-Za-z0-9._-]+@[0-9]+",
            "one repository of GitHub: OWNER/NAME, or OWNER@ID/NAME@ID as in the tokens of newer "
            "repositories",
        ),
    ] = Field(description="OWNER/NAME, or OWNER@ID/NAME@ID as in the tokens of newer repositories")
    environment: Annotated[
        str,
        matching(r"[^:*?]{1,255}", "the name of one GitHub environment, without `:`, `*` and `?`"),
    ] = Field(
        description="GitHub environment whose jobs deploy; its rules say who must approve them"
    )
    branch: Annotated[
        str, matching(r"[A-Za-z0-9._/-]{1,200}", "the name of one branch, without a wildcard")
    ] = Field("main", description="branch that is deployed")
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
    engineers: tuple[Principal, ...] = Field(
        (),
        description="roles, or `permission-set/NAME` of IAM Identity Center, that may assume the "
        "engineer role; none: identities of the account that IAM allows",
    )
    require_mfa: bool = Field(
        True, description="require MFA to assume the engineer, approver and on-call roles"
    )
    on_call: tuple[Principal, ...] = Field(
        (),
        description="roles, or permission sets, that may assume the on-call role; none: identities "
        "of the account that IAM allows",
    )
    image_approvers: tuple[Principal, ...] = Field(
        (),
        description="roles, or permission sets, that may assume the image approver role, with "
        "`images.approval`; none: identities of the account that IAM allows",
    )
    model_approvers: tuple[Principal, ...] = Field(
        (),
        description="roles, or permission sets, that may assume the model approver role, with "
        "`training.model_approval`; none: identities of the account that IAM allows",
    )
    model_deployers: tuple[Principal, ...] = Field(
        (),
        description="roles, or permission sets, that may assume the model deployer role, with "
        "`serving.enabled`; none: identities of the account that IAM allows",
    )
    platform_ci: tuple[RoleArn, ...] = Field(
        (), description="roles that may assume the deployment role"
    )
    github: GitHubSettings | None = Field(
        None,
        description="GitHub repository whose workflow deploys: "
        "`{repository, environment, branch, create_provider}`",
    )
    permission_boundary: BoundaryPolicy = Field(
        "none",
        description="permissions boundary of every role: none, managed (by the platform), or your "
        "own by its ARN or as `policy/PATH/NAME`",
    )
    role_path: RolePath = Field(
        "/",
        description="path of every role, such as `/temper/`, if your organization mandates one; "
        "a change replaces all roles",
    )
    kms_key_arns: KmsKeyArns = KmsKeyArns()
    inter_container_encryption: bool = Field(
        False,
        description="require encrypted traffic between the hosts of a job; slows multi-host "
        "training",
    )
