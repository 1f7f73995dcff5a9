"""Scheduled removal of provisioned throughput."""

from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from stacks.constructs.handler_function import HandlerFunction
from stacks.constructs.service_role import ServiceRole
from stacks.naming import ResourceNames
from stacks.policies.iam_statements import IamContext, allow, put_metrics
from stacks.settings.bedrock import BedrockSettings


class ThroughputTeardown(Construct):
    """Function that removes throughput, and its two schedules.

    One schedule removes all throughput at a set hour, the other removes idle throughput every hour.
    Throughput with a commitment cannot be deleted before its end and is left alone.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        context: IamContext,
        settings: BedrockSettings,
    ) -> None:
        super().__init__(scope, id)
        self.handler = HandlerFunction(
            self,
            "Undeploy",
            module="undeploy_throughput",
            context=context,
            minutes=5,
            variables={
                "PREFIX": names.prefix,
                "NAMESPACE": names.metrics,
                "IDLE_HOURS": str(settings.idle_hours),
            },
            statements=[
                # Listing throughput and reading metrics support no resource.
                allow(
                    "Look",
                    ["bedrock:ListProvisionedModelThroughputs", "cloudwatch:GetMetricData"],
                    ["*"],
                ),
                allow(
                    "Remove",
                    ["bedrock:DeleteProvisionedModelThroughput"],
                    [names.arn("bedrock", "provisioned-model/*")],
                    {"StringEquals": {"aws:ResourceTag/TemperPrefix": names.prefix}},
                ),
                put_metrics(names.metrics),
            ],
        )
        role = ServiceRole(
            self,
            "Caller",
            service="scheduler.amazonaws.com",
            description="Lets the schedule call the undeploy function",
            statements=[
                allow("Call", ["lambda:InvokeFunction"], [self.handler.function.function_arn])
            ],
        ).role
        self._schedule("Nightly", settings.undeploy, settings.undeploy_timezone, "all", role)
        self._schedule("Idle", "rate(1 hour)", "UTC", "idle", role)

    def _schedule(self, id: str, expression: str, zone: str, only: str, role: iam.IRole) -> None:
        scheduler.CfnSchedule(
            self,
            id,
            description=f"Removes {only} provisioned throughput",
            schedule_expression=expression,
            schedule_expression_timezone=zone,
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=self.handler.function.function_arn,
                role_arn=role.role_arn,
                input=f'{{"only": "{only}"}}',
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_retry_attempts=5, maximum_event_age_in_seconds=3600
                ),
            ),
        )
