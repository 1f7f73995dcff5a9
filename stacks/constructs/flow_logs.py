"""VPC flow logs, encrypted."""

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.constructs.encrypted_log_group import EncryptedLogGroup
from stacks.constructs.service_role import ServiceRole
from stacks.policies.iam_statements import allow


class FlowLogs(Construct):
    """Flow log of all traffic of a VPC, written to its own log group."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        vpc: ec2.IVpc,
        key: kms.IKey,
        days: int,
        removal: cdk.RemovalPolicy,
    ) -> None:
        super().__init__(scope, id)
        stack = cdk.Stack.of(self)
        group = EncryptedLogGroup(self, "Log", key=key, days=days, removal=removal).group
        role = ServiceRole(
            self,
            "Writer",
            service="vpc-flow-logs.amazonaws.com",
            description="Writes VPC flow logs",
            statements=[
                allow(
                    "Write",
                    ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                    [group.log_group_arn],
                )
            ],
            source_arns=[
                f"arn:{stack.partition}:ec2:{stack.region}:{stack.account}:vpc-flow-log/*"
            ],
        ).role
        ec2.CfnFlowLog(
            self,
            "FlowLog",
            resource_id=vpc.vpc_id,
            resource_type="VPC",
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_group_name=group.log_group_name,
            deliver_logs_permission_arn=role.role_arn,
        )
