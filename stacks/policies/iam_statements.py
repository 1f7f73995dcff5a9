"""The names, keys and phrases that the roles' statements are written with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

from stacks.naming import ResourceNames
from stacks.policies.kms_actions import READ, USE
from stacks.settings.storage import StorageSettings


@dataclass(frozen=True)
class IamContext:
    """What belongs to this environment."""

    names: ResourceNames
    data: kms.IKey
    models: kms.IKey
    logs: kms.IKey
    messages: kms.IKey


def allow(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[str],
    conditions: Mapping[str, object] | None = None,
) -> iam.PolicyStatement:
    """An Allow statement."""
    return iam.PolicyStatement(
        sid=sid,
        actions=list(actions),
        resources=list(resources),
        conditions=dict(conditions) if conditions else None,
    )


def deny(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[str],
    conditions: Mapping[str, object] | None = None,
) -> iam.PolicyStatement:
    """A Deny statement."""
    return iam.PolicyStatement(
        sid=sid,
        effect=iam.Effect.DENY,
        actions=list(actions),
        resources=list(resources),
        conditions=dict(conditions) if conditions else None,
    )


def read_bucket(context: IamContext, kind: str, folder: str = "*") -> list[iam.PolicyStatement]:
    """List a bucket and read its objects."""
    bucket, title = context.names.bucket_arn(kind), kind.title().replace("-", "")
    return [
        allow(f"List{title}", ["s3:GetBucketLocation", "s3:ListBucket"], [bucket]),
        allow(f"Read{title}", ["s3:GetObject", "s3:GetObjectVersion"], [f"{bucket}/{folder}"]),
    ]


def write_bucket(context: IamContext, kind: str) -> list[iam.PolicyStatement]:
    """Read a bucket, and write objects; only the runs bucket lets objects go."""
    bucket, title = context.names.bucket_arn(kind), kind.title().replace("-", "")
    actions = ["s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:PutObject"]
    if kind == "runs":
        actions.append("s3:DeleteObject")  # a checkpoint makes room for the next
    return [*read_bucket(context, kind), allow(f"Write{title}", actions, [f"{bucket}/*"])]


def use_key(key: kms.IKey, domain: str) -> iam.PolicyStatement:
    """Encrypt and decrypt with a domain's key."""
    return allow(f"Use{domain}Key", USE, [key.key_arn])


def grant_key(key: kms.IKey, domain: str) -> iam.PolicyStatement:
    """Let SageMaker use the key on volumes it attaches for the caller."""
    condition = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    return allow(f"Grant{domain}Key", ["kms:CreateGrant"], [key.key_arn], condition)


def read_key(key: kms.IKey, domain: str) -> iam.PolicyStatement:
    """Decrypt with a domain's key."""
    return allow(f"Read{domain}Key", READ, [key.key_arn])


def pull_images(context: IamContext) -> list[iam.PolicyStatement]:
    """Pull our images. GetAuthorizationToken takes no resource."""
    return [
        allow("RegistryLogin", ["ecr:GetAuthorizationToken"], ["*"]),
        allow(
            "PullImages",
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            [context.names.arn("ecr", f"repository/{context.names.prefix}/*")],
        ),
    ]


def put_metrics(*namespaces: str) -> iam.PolicyStatement:
    """Publish metrics. PutMetricData takes no resource; the namespace bounds it."""
    condition = {"StringEquals": {"cloudwatch:namespace": list(namespaces)}}
    return allow("PutMetrics", ["cloudwatch:PutMetricData"], ["*"], condition)


def write_logs(context: IamContext, group: str) -> iam.PolicyStatement:
    """Write log streams of the groups that begin so."""
    return allow(
        "WriteLogs",
        ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
        [
            context.names.arn("logs", f"log-group:{group}"),
            context.names.arn("logs", f"log-group:{group}:*"),
        ],
    )


def secret_arn(context: IamContext, name: str) -> str:
    """A secret of ours; Secrets Manager appends six characters of its own."""
    return context.names.arn("secretsmanager", f"secret:{context.names.prefix}/{name}-??????")


def secret_names(storage: StorageSettings) -> list[str]:
    """Secrets that people fill in and jobs read, without the prefix."""
    return [*(["hub-token"] if storage.hub_token else []), *(f"keys/{k}" for k in storage.keys)]


def role_arn_in_account(names: ResourceNames, role: str) -> str:
    """The ARN of a role of this account by name."""
    return f"arn:{Aws.PARTITION}:iam::{names.account}:role/{role}"
