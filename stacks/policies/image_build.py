"""Permissions of the image build: read the source, push images, log."""

from aws_cdk import aws_iam as iam

from stacks.policies.iam_statements import (
    IamContext,
    allow,
    pull_images,
    read_bucket,
    read_key,
    write_logs,
)
from stacks.settings.images import ImageSettings


def statements(context: IamContext, settings: ImageSettings) -> list[iam.PolicyStatement]:
    """Return what a build needs: no training data, only `source/` of the runs bucket.

    Args:
        context: Names and keys of the environment.
        settings: Settings of the images; a build pushes to their repositories alone.
    """
    names = context.names
    return [
        *read_bucket(context, "runs", "source/*"),
        read_key(context.data, "Data"),
        *pull_images(context),
        allow(
            "PushImages",
            [
                "ecr:CompleteLayerUpload",
                "ecr:DescribeImages",
                "ecr:InitiateLayerUpload",
                "ecr:PutImage",
                "ecr:UploadLayerPart",
            ],
            [names.arn("ecr", f"repository/{names.repository(kind)}") for kind in settings.kinds],
        ),
        # The first pull of a base image through the cache creates and fills a repository.
        allow(
            "FillCache",
            ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"],
            [names.arn("ecr", f"repository/{names.prefix}/public/*")],
        ),
        write_logs(context, f"/temper/{names.prefix}/image-build"),
    ]
