"""IAM policies that keep jobs in the platform's subnets and security group."""

from collections.abc import Sequence

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.naming import ResourceNames
from stacks.policies.engineer import CREATE_JOBS
from stacks.policies.iam_statements import allow, deny, describe_network


class JobVpcGuardrails(Construct):
    """Two managed policies that refer to the subnets and the security group.

    Engineers are denied jobs in other subnets or with other groups. Job roles may create network
    interfaces in these subnets and with this group only. The policies are part of the training
    stack
    because the security stack is deployed before the network exists.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        subnets: Sequence[ec2.ISubnet],
        group: ec2.ISecurityGroup,
        engineer_roles: Sequence[iam.IRole],
        job_roles: Sequence[iam.IRole],
    ) -> None:
        super().__init__(scope, id)
        # `ForAnyValue` with a negated operator matches if any requested subnet is not in the list.
        ids = [subnet.subnet_id for subnet in subnets]
        iam.ManagedPolicy(
            self,
            "OurSubnetsOnly",
            roles=list(engineer_roles),
            statements=[
                deny(
                    "OnlyOurSubnets",
                    CREATE_JOBS,
                    ["*"],
                    {"ForAnyValue:StringNotEquals": {"sagemaker:VpcSubnets": ids}},
                ),
                deny(
                    "OnlyOurGroup",
                    CREATE_JOBS,
                    ["*"],
                    {
                        "ForAnyValue:StringNotEquals": {
                            "sagemaker:VpcSecurityGroupIds": [group.security_group_id]
                        }
                    },
                ),
            ],
        )
        iam.ManagedPolicy(
            self,
            "NetworkInterfaces",
            roles=list(job_roles),
            statements=interface_statements(names, subnets, group),
        )


def interface_statements(
    names: ResourceNames, subnets: Sequence[ec2.ISubnet], group: ec2.ISecurityGroup
) -> list[iam.PolicyStatement]:
    """Return the permissions to attach network interfaces in these subnets with this group.

    Args:
        names: Names of the environment.
        subnets: Subnets of the interfaces.
        group: Their security group.
    """
    subnet_arns = [names.arn("ec2", f"subnet/{subnet.subnet_id}") for subnet in subnets]
    interfaces = names.arn("ec2", "network-interface/*")
    return [
        allow(
            "Attach",
            ["ec2:CreateNetworkInterface"],
            [
                *subnet_arns,
                names.arn("ec2", f"security-group/{group.security_group_id}"),
                interfaces,
            ],
        ),
        allow(
            "Manage",
            [
                "ec2:CreateNetworkInterfacePermission",
                "ec2:DeleteNetworkInterface",
                "ec2:DeleteNetworkInterfacePermission",
            ],
            [interfaces],
            {"ArnEquals": {"ec2:Subnet": subnet_arns}},
        ),
        describe_network("Describe"),
    ]
