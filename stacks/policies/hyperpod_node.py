"""Permissions of the HyperPod node role."""

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from stacks.policies.iam_statements import (
    IamContext,
    allow,
    grant_key,
    pull_images,
    put_metrics,
    read_bucket,
    use_key,
    write_bucket,
    write_logs,
)


def slurm_interface_statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to tag and detach the network interfaces of Slurm nodes.

    AWS lists them with the other actions on interfaces, which `JobVpcGuardrails` allows:
    docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-prerequisites-iam.html
    """
    interfaces = context.names.arn("ec2", "network-interface/*")
    instances = f"arn:{Aws.PARTITION}:ec2:{context.names.region}:*:instance/*"
    return [
        allow("MarkInterfaces", ["ec2:CreateTags"], [interfaces]),
        allow("DetachInterfaces", ["ec2:DetachNetworkInterface"], [interfaces, instances]),
    ]


def statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to read data, write runs and models, log, and open shell sessions."""
    cluster_logs = f"/aws/sagemaker/Clusters/{context.names.prefix}-cluster/*"
    return [
        *read_bucket(context, "data"),
        *write_bucket(context, "runs"),
        *write_bucket(context, "models"),
        use_key(context.data, "Data"),
        grant_key(context.data, "Data"),
        use_key(context.models, "Models"),
        *pull_images(context),
        put_metrics("/aws/sagemaker/Clusters", context.names.metrics),
        write_logs(context, cluster_logs),
        allow(
            "CreateClusterLogGroup",
            ["logs:CreateLogGroup"],
            [context.names.arn("logs", f"log-group:{cluster_logs}")],
        ),
        # The channels of Session Manager have no ARN.
        allow(
            "SessionManager",
            [
                "ssmmessages:CreateControlChannel",
                "ssmmessages:CreateDataChannel",
                "ssmmessages:OpenControlChannel",
                "ssmmessages:OpenDataChannel",
            ],
            ["*"],
        ),
    ]
