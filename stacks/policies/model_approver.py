"""Permissions to approve versions of models, for people who may not register them."""

from aws_cdk import aws_iam as iam

from stacks.policies.engineer import REGISTERED_MODELS
from stacks.policies.iam_statements import IamContext, allow, deny, read_bucket, read_key

APPROVE = ["sagemaker:CreateModelPackage", "sagemaker:UpdateModelPackage"]


def statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to compare the files of a version, and to change its approval.

    The denials hold whatever else is attached to the role: who approves cannot register.

    Args:
        context: Names and keys of the environment.
    """
    names = context.names
    return [
        allow(
            "ApproveModels",
            [
                "sagemaker:DescribeModelPackage",
                "sagemaker:DescribeModelPackageGroup",
                "sagemaker:UpdateModelPackage",
            ],
            [
                names.arn("sagemaker", f"model-package/{names.prefix}-models/*"),
                names.arn("sagemaker", f"model-package-group/{names.prefix}-models"),
            ],
        ),
        allow("ListVersions", ["sagemaker:ListModelPackages"], ["*"]),  # supports no resource
        allow(
            "ReadParameters",
            ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"],
            [
                names.arn("ssm", f"parameter/{names.prefix}/*"),
                names.arn("ssm", f"parameter/{names.prefix}"),
            ],
        ),
        *read_bucket(context, "models", REGISTERED_MODELS),
        read_key(context.models, "Models"),
        deny(
            "NoRegistering",
            ["s3:PutObject", "sagemaker:CreateModelPackage", "sagemaker:CreateTrainingJob"],
            ["*"],
        ),
    ]


def engineer_denial() -> iam.PolicyStatement:
    """Return the denial of approvals by engineers, at registration or later."""
    return deny(
        "NoModelApproval",
        APPROVE,
        ["*"],
        {"StringEquals": {"sagemaker:ModelApprovalStatus": "Approved"}},
    )
