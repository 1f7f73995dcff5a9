"""Builders of the IAM statements that several roles share."""

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
    """Names and KMS keys of one environment, which IAM statements refer to.

    Attributes:
        names: Names and ARNs.
        environment: Name of the environment, the value of the tag `Environment`.
        data: Key of data and runs.
        models: Key of models and images.
        logs: Key of log groups and the audit trail.
        messages: Key of topics, queues, tables and Lambda environments.
    """

    names: ResourceNames
    environment: str
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
    """Return an Allow statement.

    Args:
        sid: Statement id, unique in its policy.
        actions: Actions, such as `s3:GetObject`.
        resources: ARNs or patterns.
        conditions: Condition block, by operator.
    """
    return iam.PolicyStatement(
        sid=sid,
        actions=list(actions),
        resources=list(resources),
        conditions=dict(conditions) if conditions else None,
    )


def describe_network(sid: str) -> iam.PolicyStatement:
    """Return the permission to look at networks; Describe actions of EC2 support no resource.

    Args:
        sid: Statement id, unique in its policy.
    """
    return allow(
        sid,
        [
            "ec2:DescribeDhcpOptions",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets",
            "ec2:DescribeVpcs",
        ],
        ["*"],
    )


def allow_node_sessions(
    sid: str, cluster_arn: str, documents: Sequence[str]
) -> iam.PolicyStatement:
    """Return a statement that allows sessions on a cluster's nodes with these documents alone.

    Other session documents are refused, and so is a session without one, which would be a shell as
    root.
    docs.aws.amazon.com/systems-manager/latest/userguide/getting-started-sessiondocumentaccesscheck.html

    Args:
        sid: Statement id, unique in its policy.
        cluster_arn: ARN of the HyperPod cluster.
        documents: ARNs of the session documents.
    """
    return allow(
        sid,
        ["ssm:StartSession"],
        [cluster_arn, *documents],
        {"BoolIfExists": {"ssm:SessionDocumentAccessCheck": "true"}},
    )


def deny(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[str],
    conditions: Mapping[str, object] | None = None,
) -> iam.PolicyStatement:
    """Return a Deny statement.

    Args:
        sid: Statement id, unique in its policy.
        actions: Actions, such as `s3:GetObject`.
        resources: ARNs or patterns.
        conditions: Condition block, by operator.
    """
    return iam.PolicyStatement(
        sid=sid,
        effect=iam.Effect.DENY,
        actions=list(actions),
        resources=list(resources),
        conditions=dict(conditions) if conditions else None,
    )


def read_bucket(context: IamContext, kind: str, folder: str = "*") -> list[iam.PolicyStatement]:
    """Return the permissions to list a bucket and to read objects.

    Args:
        context: Names and keys of the environment.
        kind: Kind of bucket: `data`, `runs` or `models`.
        folder: Key pattern that reading is restricted to.
    """
    bucket, title = context.names.bucket_arn(kind), kind.title().replace("-", "")
    return [
        allow(f"List{title}", ["s3:GetBucketLocation", "s3:ListBucket"], [bucket]),
        allow(f"Read{title}", ["s3:GetObject", "s3:GetObjectVersion"], [f"{bucket}/{folder}"]),
    ]


def write_bucket(context: IamContext, kind: str) -> list[iam.PolicyStatement]:
    """Return the permissions to read and write a bucket; only the runs bucket allows deletion."""
    bucket, title = context.names.bucket_arn(kind), kind.title().replace("-", "")
    actions = ["s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:PutObject"]
    if kind == "runs":
        actions.append("s3:DeleteObject")  # old checkpoints are pruned
    return [*read_bucket(context, kind), allow(f"Write{title}", actions, [f"{bucket}/*"])]


def use_key(key: kms.IKey, domain: str) -> iam.PolicyStatement:
    """Return the permission to encrypt and decrypt with a key."""
    return allow(f"Use{domain}Key", USE, [key.key_arn])


def grant_key(key: kms.IKey, domain: str) -> iam.PolicyStatement:
    """Return the permission for SageMaker to use the key on volumes it attaches for the caller."""
    condition = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    return allow(f"Grant{domain}Key", ["kms:CreateGrant"], [key.key_arn], condition)


def read_key(key: kms.IKey, domain: str) -> iam.PolicyStatement:
    """Return the permission to decrypt with a key."""
    return allow(f"Read{domain}Key", READ, [key.key_arn])


def pull_images(context: IamContext, kind: str = "*") -> list[iam.PolicyStatement]:
    """Return the permissions to pull the environment's images, or those of one kind.

    `ecr:GetAuthorizationToken` supports no resource.
    """
    return [
        allow("RegistryLogin", ["ecr:GetAuthorizationToken"], ["*"]),
        allow(
            "PullImages",
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            [context.names.arn("ecr", f"repository/{context.names.repository(kind)}")],
        ),
    ]


def put_metrics(*namespaces: str) -> iam.PolicyStatement:
    """Return the permission to publish metrics.

    `cloudwatch:PutMetricData` supports no resource; the condition restricts the namespace.
    """
    condition = {"StringEquals": {"cloudwatch:namespace": list(namespaces)}}
    return allow("PutMetrics", ["cloudwatch:PutMetricData"], ["*"], condition)


def put_events(names: ResourceNames) -> iam.PolicyStatement:
    """Return the permission to put events of the platform's own source on the default bus."""
    condition = {"ForAllValues:StringEquals": {"events:source": names.event_source}}
    return allow("Say", ["events:PutEvents"], [names.arn("events", "event-bus/default")], condition)


def write_logs(context: IamContext, *groups: str) -> iam.PolicyStatement:
    """Return the permissions to write log streams of the groups that match one of `groups`."""
    return allow(
        "WriteLogs",
        ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
        [
            context.names.arn("logs", f"log-group:{group}{suffix}")
            for group in groups
            for suffix in ("", ":*")
        ],
    )


def secret_arn(context: IamContext, name: str) -> str:
    """Return the ARN pattern of a secret.

    Secrets Manager appends a hyphen and six random characters to the name.
    """
    return context.names.arn("secretsmanager", f"secret:{context.names.prefix}/{name}-??????")


def secret_names(storage: StorageSettings) -> list[str]:
    """Return the names, without the prefix, of secrets that people fill in and jobs read."""
    return [*(["hub-token"] if storage.hub_token else []), *(f"keys/{k}" for k in storage.keys)]


def role_arn_in_account(names: ResourceNames, role: str) -> str:
    """Return the ARN of the role with that name in this account."""
    return f"arn:{Aws.PARTITION}:iam::{names.account}:role/{role}"
