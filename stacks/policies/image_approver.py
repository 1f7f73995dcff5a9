"""Permissions to approve images, for people who may not build or push them."""

from aws_cdk import aws_iam as iam

from stacks.naming import ResourceNames
from stacks.policies.iam_statements import allow, deny
from stacks.settings.images import ImageSettings


def statements(names: ResourceNames, settings: ImageSettings) -> list[iam.PolicyStatement]:
    """Return the permissions to read what is known of an image, and to write its approval.

    The denials hold whatever else is attached to the role: who approves cannot build.

    Args:
        names: Names of the environment.
        settings: Settings of the images.
    """
    repositories = [names.arn("ecr", f"repository/{names.repository(k)}") for k in settings.kinds]
    return [
        allow(
            "ApproveImages",
            ["ssm:PutParameter"],
            [
                names.arn("ssm", f"parameter/{names.prefix}/images/{kind}/approved")
                for kind in settings.kinds
            ],
        ),
        allow(
            "ReadParameters",
            ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"],
            [
                names.arn("ssm", f"parameter/{names.prefix}/*"),
                names.arn("ssm", f"parameter/{names.prefix}"),
            ],
        ),
        allow("ReadImages", ["ecr:DescribeImages", "ecr:DescribeImageScanFindings"], repositories),
        allow(
            "ReadBuilds",
            ["codebuild:BatchGetBuilds", "codebuild:ListBuildsForProject"],
            [names.arn("codebuild", f"project/{names.build_project}")],
        ),
        deny(
            "NoBuilding",
            [
                "codebuild:RetryBuild",
                "codebuild:StartBuild",
                "codebuild:StartBuildBatch",
                "codebuild:UpdateProject",
                "ecr:PutImage",
            ],
            ["*"],
        ),
    ]
