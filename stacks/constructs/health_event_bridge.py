"""Forwarding of health-agent log events of a Slurm cluster to EventBridge."""

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.constructs.handler_function import HandlerFunction
from stacks.naming import ResourceNames
from stacks.policies.iam_statements import IamContext, put_events


class HealthEventBridge(Construct):
    """Subscription filter on the cluster's log group, and the function that it calls."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        context: IamContext,
        cluster: sagemaker.CfnCluster,
        cluster_name: str,
    ) -> None:
        super().__init__(scope, id)
        cluster_id = cdk.Fn.select(1, cdk.Fn.split("/", cluster.attr_cluster_arn))
        group = f"/aws/sagemaker/Clusters/{cluster_name}/{cluster_id}"
        self.handler = HandlerFunction(
            self,
            "Bridge",
            module="bridge_health_events",
            context=context,
            variables={"SOURCE": names.event_source, "CLUSTER": cluster_name},
            statements=[put_events(names)],
        )
        permission = lambda_.CfnPermission(
            self,
            "LogsMayCall",
            action="lambda:InvokeFunction",
            function_name=self.handler.function.function_arn,
            principal="logs.amazonaws.com",
            source_account=names.account,
            source_arn=names.arn("logs", f"log-group:{group}:*"),
        )
        subscription = logs.CfnSubscriptionFilter(
            self,
            "HealthEvents",
            log_group_name=group,
            filter_pattern='{ $.HealthMonitoringAgentDetectionEvent = "HealthEvent" }',
            destination_arn=self.handler.function.function_arn,
        )
        # CloudWatch Logs sends a test message when the subscription is created, which fails without
        # the permission to invoke the function.
        subscription.add_resource_dependency(permission)
