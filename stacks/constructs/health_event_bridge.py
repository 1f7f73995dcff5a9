"""Forwarding of health-agent log events of a Slurm cluster to EventBridge."""

from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.constructs.cluster_log_group import ClusterLogGroup
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
        log: ClusterLogGroup,
        cluster_name: str,
    ) -> None:
        super().__init__(scope, id)
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
            source_arn=names.arn("logs", f"log-group:{log.group_name}:*"),
        )
        subscription = logs.CfnSubscriptionFilter(
            self,
            "HealthEvents",
            log_group_name=log.group_name,
            filter_pattern='{ $.HealthMonitoringAgentDetectionEvent = "HealthEvent" }',
            destination_arn=self.handler.function.function_arn,
        )
        # CloudWatch Logs sends a test message when the subscription is created, which fails without
        # the permission to invoke the function.
        subscription.add_resource_dependency(permission)
        subscription.node.add_dependency(log.resource)
