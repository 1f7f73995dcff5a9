"""Permissions of the role with which HyperPod's managed Karpenter scales instance groups.

docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-eks-autoscaling-iam.html
"""

from aws_cdk import aws_iam as iam

from stacks.policies.iam_statements import IamContext, allow


def statements(context: IamContext) -> list[iam.PolicyStatement]:
    """Return the permissions to add and remove nodes, and to encrypt their volumes."""
    names = context.names
    through_sagemaker = {"kms:ViaService": f"sagemaker.{names.region}.amazonaws.com"}
    return [
        # The id of the cluster is generated, and the cluster names this role.
        allow(
            "ScaleGroups",
            ["sagemaker:BatchAddClusterNodes", "sagemaker:BatchDeleteClusterNodes"],
            [names.arn("sagemaker", "cluster/*")],
        ),
        allow(
            "DescribeVolumeKey",
            ["kms:DescribeKey"],
            [context.data.key_arn],
            {"StringLike": through_sagemaker},
        ),
        allow(
            "EncryptVolumes",
            ["kms:CreateGrant"],
            [context.data.key_arn],
            {
                "StringLike": through_sagemaker,
                "Bool": {"kms:GrantIsForAWSResource": "true"},
            },
        ),
    ]
