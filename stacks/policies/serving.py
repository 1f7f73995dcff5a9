"""Permissions of an endpoint's container: read registered models, write captured calls."""

from aws_cdk import aws_iam as iam

from stacks.policies.engineer import REGISTERED_MODELS
from stacks.policies.iam_statements import (
    IamContext,
    allow,
    grant_key,
    put_metrics,
    read_bucket,
    read_key,
    use_key,
)

IMAGE_KINDS = ("serve", "serve-gpu")
# Captured calls, and inputs and outputs of asynchronous and batch inference, in the runs bucket.
SERVING_FILES = "serving/*"


def statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to read models, pull serving images, capture calls and log.

    Args:
        context: Names and keys of the environment.
    """
    names = context.names
    groups = [f"/aws/sagemaker/{kind}/{names.prefix}-*" for kind in LOG_KINDS]
    groups += ["/aws/sagemaker/TransformJobs", "/aws/sagemaker/ProcessingJobs"]
    files = [f"{names.bucket_arn('runs')}/{SERVING_FILES}"]
    return [
        *read_bucket(context, "models", REGISTERED_MODELS),
        read_key(context.models, "Models"),
        allow("ListRuns", ["s3:GetBucketLocation", "s3:ListBucket"], [names.bucket_arn("runs")]),
        allow("ServingFiles", ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"], files),
        use_key(context.data, "Data"),
        # SageMaker encrypts the volumes of the instances.
        grant_key(context.data, "Data"),
        # ecr:GetAuthorizationToken supports no resource.
        allow("RegistryLogin", ["ecr:GetAuthorizationToken"], ["*"]),
        allow(
            "PullImages",
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            [names.arn("ecr", f"repository/{names.repository(kind)}") for kind in IMAGE_KINDS],
        ),
        allow(
            "WriteLogs",
            [
                "logs:CreateLogGroup",
                "logs:CreateLogStream",
                "logs:DescribeLogStreams",
                "logs:PutLogEvents",
            ],
            [names.arn("logs", f"log-group:{g}{end}") for g in groups for end in ("", ":*")],
        ),
        put_metrics("/aws/sagemaker/Endpoints", names.metrics),
    ]


LOG_KINDS = ("Endpoints", "InferenceComponents")
