"""Permissions of HyperPod nodes on EKS: pod networking and AWS-owned images."""

from collections.abc import Sequence

from aws_cdk import Aws
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.naming import ResourceNames
from stacks.policies.iam_statements import allow

# Images of EKS add-ons and of the health agent are in AWS accounts that differ by Region.
AWS_IMAGES = ("amazon-k8s-cni*", "amazon/*", "eks/*", "hyperpod-*")


class EksNodes(Construct):
    """Managed policy that extends the HyperPod node role for EKS.

    Permission to create network interfaces is part of `JobVpcGuardrails`.

    Attributes:
        policy: Policy that must be attached before nodes can join.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        subnets: Sequence[ec2.ISubnet],
        role: iam.IRole,
        cluster_arn: str,
    ) -> None:
        super().__init__(scope, id)
        interfaces = names.arn("ec2", "network-interface/*")
        in_these_subnets = {
            "ArnEquals": {
                "ec2:Subnet": [names.arn("ec2", f"subnet/{each.subnet_id}") for each in subnets]
            }
        }
        images = [
            f"arn:{Aws.PARTITION}:ecr:{names.region}:*:repository/{name}" for name in AWS_IMAGES
        ]
        self.policy = iam.ManagedPolicy(
            self,
            "Policy",
            roles=[role],
            statements=[
                allow(
                    "PodAddresses",
                    [
                        "ec2:AssignPrivateIpAddresses",
                        "ec2:ModifyNetworkInterfaceAttribute",
                        "ec2:UnassignPrivateIpAddresses",
                    ],
                    [interfaces],
                    in_these_subnets,
                ),
                allow(
                    "PodInterfaces",
                    ["ec2:AttachNetworkInterface", "ec2:DetachNetworkInterface"],
                    [interfaces, f"arn:{Aws.PARTITION}:ec2:{names.region}:*:instance/*"],
                ),
                # The VPC CNI add-on tags the interfaces it creates, to find those to delete.
                allow("MarkInterfaces", ["ec2:CreateTags"], [interfaces]),
                # Describe actions of EC2 support no resource.
                allow(
                    "DescribeNodes",
                    ["ec2:DescribeInstances", "ec2:DescribeInstanceTypes", "ec2:DescribeTags"],
                    ["*"],
                ),
                allow(
                    "AwsImages",
                    [
                        "ecr:BatchCheckLayerAvailability",
                        "ecr:BatchGetImage",
                        "ecr:GetDownloadUrlForLayer",
                    ],
                    images,
                ),
                allow("PodIdentity", ["eks-auth:AssumeRoleForPodIdentity"], [cluster_arn]),
            ],
        )
