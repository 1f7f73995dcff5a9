"""Key and retention period of the log group that HyperPod creates for a cluster."""

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.constructs.custom_resource import AwaitedProvider
from stacks.constructs.encrypted_log_group import retention_days
from stacks.policies.iam_statements import IamContext, allow


class ClusterLogGroup(Construct):
    """Custom resource that creates the log group if it is missing, and sets key and retention.

    A log group of CloudFormation would fail if HyperPod was faster; without one, whatever refers to
    the group would fail if HyperPod was slower.

    Attributes:
        group_name: Name of the log group.
        resource: The custom resource, which whatever refers to the group depends on.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        context: IamContext,
        cluster: sagemaker.CfnCluster,
        cluster_name: str,
        days: int,
    ) -> None:
        super().__init__(scope, id)
        cluster_id = cdk.Fn.select(1, cdk.Fn.split("/", cluster.attr_cluster_arn))
        self.group_name = f"/aws/sagemaker/Clusters/{cluster_name}/{cluster_id}"
        actions = ["logs:AssociateKmsKey", "logs:CreateLogGroup", "logs:PutRetentionPolicy"]
        group = context.names.arn("logs", f"log-group:/aws/sagemaker/Clusters/{cluster_name}/*")
        self.resource = AwaitedProvider(
            self,
            "Set",
            module="cluster_log_group",
            context=context,
            statements=[allow("SetLogGroup", actions, [group])],
            wait=False,
        ).add_resource(
            "Group",
            "ClusterLogGroup",
            {
                "LogGroupName": self.group_name,
                "KmsKeyArn": context.logs.key_arn,
                "Days": retention_days(days),
            },
        )
