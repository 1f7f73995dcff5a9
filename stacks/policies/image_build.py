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


def statements(estate: IamContext) -> list[iam.PolicyStatement]:
    """Everything a build needs, and no training data: only `source/` of the runs bucket."""
    return [
        *read_bucket(estate, "runs", "source/*"),
        read_key(estate.data, "Data"),
        *pull_images(estate),
        allow(
            "PushImages",
            [
                "ecr:CompleteLayerUpload",
                "ecr:DescribeImages",
                "ecr:InitiateLayerUpload",
                "ecr:PutImage",
                "ecr:UploadLayerPart",
            ],
            [estate.names.arn("ecr", f"repository/{estate.names.prefix}/*")],
        ),
        # The cache makes a repository for a base at its first pull, and fills it.
        allow(
            "FillCache",
            ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"],
            [estate.names.arn("ecr", f"repository/{estate.names.prefix}/public/*")],
        ),
        write_logs(estate, f"/temper/{estate.names.prefix}/image-build"),
    ]
