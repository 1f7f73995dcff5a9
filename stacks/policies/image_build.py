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


def statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return what a build needs: no training data, only `source/` of the runs bucket."""
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
            [context.names.arn("ecr", f"repository/{context.names.prefix}/*")],
        ),
        # The first pull of a base image through the cache creates and fills a repository.
        allow(
            "FillCache",
            ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"],
            [context.names.arn("ecr", f"repository/{context.names.prefix}/public/*")],
        ),
        write_logs(context, f"/temper/{context.names.prefix}/image-build"),
    ]
