"""KMS key of one data domain, with a key policy that names its administrators and users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.policies.kms_actions import READ, RESTORE, USE

ADMINISTER = [
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:DeleteAlias",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListAliases",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:RevokeGrant",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
]


@dataclass(frozen=True)
class KeyUsers:
    """Principals that use a key, by kind of use.

    Attributes:
        writers: Roles that encrypt and decrypt.
        readers: Roles that only decrypt.
        restorers: Roles that may undo the disabling or the scheduled deletion of the key.
        services: Service principals that use the key on behalf of this account's resources.
        delegated_services: AWS services through which an identity of the account may use the key,
            provided its own policy allows it (`kms:ViaService`).
        linked_roles: Name patterns of service-linked roles that read and write our buckets.
        reader_accounts: Other accounts whose identities, if their own policies allow it, decrypt
            objects in S3.
    """

    writers: Sequence[iam.IRole] = ()
    readers: Sequence[iam.IRole] = ()
    restorers: Sequence[iam.IRole] = ()
    services: Sequence[str] = ()
    delegated_services: Sequence[str] = ()
    linked_roles: Sequence[str] = ()
    reader_accounts: Sequence[str] = ()


class DomainKmsKey(Construct):
    """Customer-managed key with rotation.

    Only the named users can decrypt directly. The root principal, and with it any identity that IAM
    policies allow, can only administer the key, or use it through the delegated services, in which
    case
    the policy of the caller must allow the use as well.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        domain: str,
        alias: str,
        users: KeyUsers,
        administrators: Sequence[str],
        qualifier: str,
        removal: cdk.RemovalPolicy,
    ) -> None:
        super().__init__(scope, id)
        stack = cdk.Stack.of(self)
        document = iam.PolicyDocument()
        document.add_statements(self._administration(stack, administrators, qualifier))
        for statement in (
            *_direct_use(users),
            *(_service_use(stack, service) for service in users.services),
        ):
            document.add_statements(statement)
        if users.delegated_services:
            document.add_statements(_delegated_use(stack, users.delegated_services))
        if users.reader_accounts:
            document.add_statements(_use_by_accounts(stack, users.reader_accounts))
        if users.linked_roles:
            document.add_statements(_linked_use(stack, users.linked_roles))
        self.key = kms.Key(
            self,
            "Key",
            description=f"Temper: {domain}",
            alias=alias,
            enable_key_rotation=True,
            pending_window=cdk.Duration.days(30),
            policy=document,
            removal_policy=removal,
        )

    @staticmethod
    def _administration(
        stack: cdk.Stack, administrators: Sequence[str], qualifier: str
    ) -> iam.PolicyStatement:
        principals: list[iam.IPrincipal] = [iam.AccountRootPrincipal()]
        if administrators:
            # The role that CloudFormation deploys with must stay an administrator: without it KMS
            # rejects the policy, because no deployment could change it again.
            deployer = f"cdk-{qualifier}-cfn-exec-role-{stack.account}-{stack.region}"
            principals = [
                *(iam.ArnPrincipal(arn) for arn in administrators),
                iam.ArnPrincipal(f"arn:{stack.partition}:iam::{stack.account}:role/{deployer}"),
            ]
        return iam.PolicyStatement(
            sid="Administer", principals=principals, actions=ADMINISTER, resources=["*"]
        )


def _direct_use(users: KeyUsers) -> list[iam.PolicyStatement]:
    for_services = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    statements = []
    if users.writers:
        statements += [
            _role_use("Use", users.writers, USE),
            _role_use("GrantToServices", users.writers, ["kms:CreateGrant"], for_services),
        ]
    if users.readers:
        statements.append(_role_use("Read", users.readers, READ))
    if users.restorers:
        statements.append(_role_use("Restore", users.restorers, RESTORE))
    return statements


def _role_use(
    sid: str,
    roles: Sequence[iam.IRole],
    actions: Sequence[str],
    conditions: Mapping[str, object] | None = None,
) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid=sid,
        principals=[iam.ArnPrincipal(role.role_arn) for role in roles],
        actions=list(actions),
        resources=["*"],
        conditions=dict(conditions) if conditions else None,
    )


def _service_use(stack: cdk.Stack, service: str) -> iam.PolicyStatement:
    conditions: dict[str, dict[str, str]] = {"StringEquals": {"aws:SourceAccount": stack.account}}
    if service.startswith("logs."):
        # CloudWatch Logs sends no source account, but the ARN of the log group as encryption
        # context.
        groups = f"arn:{stack.partition}:logs:{stack.region}:{stack.account}:log-group:*"
        conditions = {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}}
    elif service.startswith("cloudtrail."):
        trails = f"arn:{stack.partition}:cloudtrail:{stack.region}:{stack.account}:trail/*"
        conditions = {"ArnLike": {"aws:SourceArn": trails}}
    name = service.split(".")[0].replace("-", " ").title().replace(" ", "")
    return iam.PolicyStatement(
        sid=f"Serve{name}",
        principals=[iam.ServicePrincipal(service)],
        actions=["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*"],
        resources=["*"],
        conditions=conditions,
    )


def _delegated_use(stack: cdk.Stack, services: Sequence[str]) -> iam.PolicyStatement:
    endpoints = [f"{service}.{stack.region}.{stack.url_suffix}" for service in services]
    return iam.PolicyStatement(
        sid="UseThroughServices",
        principals=[iam.AccountRootPrincipal()],
        actions=[*USE, "kms:CreateGrant"],
        resources=["*"],
        conditions={
            "StringEquals": {"kms:ViaService": endpoints, "kms:CallerAccount": stack.account}
        },
    )


def _use_by_accounts(stack: cdk.Stack, accounts: Sequence[str]) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid="ReadByOtherAccounts",
        principals=[iam.AccountPrincipal(account) for account in accounts],
        actions=["kms:Decrypt"],
        resources=["*"],
        conditions={
            "StringEquals": {
                "kms:ViaService": f"s3.{stack.region}.{stack.url_suffix}",
                "kms:CallerAccount": list(accounts),
            }
        },
    )


def _linked_use(stack: cdk.Stack, roles: Sequence[str]) -> iam.PolicyStatement:
    """Return the statement for service-linked roles that a service creates for each resource.

    Their names contain a generated id and a principal cannot contain a wildcard, so the principal
    is anyone, and the conditions restrict it to those roles, calling through S3.
    """
    arns = [f"arn:{stack.partition}:iam::{stack.account}:role/aws-service-role/{r}" for r in roles]
    return iam.PolicyStatement(
        sid="UseByLinkedRoles",
        principals=[iam.AnyPrincipal()],
        actions=USE,
        resources=["*"],
        conditions={
            "ArnLike": {"aws:PrincipalArn": arns},
            "StringEquals": {
                "kms:ViaService": f"s3.{stack.region}.{stack.url_suffix}",
                "kms:CallerAccount": stack.account,
            },
        },
    )
