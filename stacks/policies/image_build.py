"""The image build role: read the build context, push to our repositories, log."""

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
    """Everything a build needs, and no training data: only `source/` of the runs bucket."""
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
        # The cache makes a repository for a base at its first pull, and fills it.
        allow(
            "FillCache",
            ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"],
            [context.names.arn("ecr", f"repository/{context.names.prefix}/public/*")],
        ),
        write_logs(context, f"/temper/{context.names.prefix}/image-build"),
    ]
