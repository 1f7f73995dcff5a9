"""Scheduled removal of what serves models and is idle, or past its end."""

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from stacks.constructs.handler_function import HandlerFunction
from stacks.constructs.service_role import ServiceRole
from stacks.naming import ResourceNames
from stacks.policies.iam_statements import IamContext, allow, put_metrics


@dataclass(frozen=True)
class RemovalSchedule:
    """Schedule of the function.

    Attributes:
        id: Construct id.
        expression: Schedule expression.
        only: `idle` for what is idle or past its end, `all` for whatever has no later end.
        zone: Time zone.
    """

    id: str
    expression: str
    only: str
    zone: str = "UTC"


class ScheduledRemoval(Construct):
    """Function that removes resources, and its schedules.

    Args:
        scope: Parent construct.
        id: Construct id.
        names: Names of the environment.
        context: Names and keys of the environment.
        kinds: Kinds of resources, as `stacks/handlers/undeploy` names them.
        what: Name of the resources in descriptions.
        log_name: Last part of the name of the log group.
        statements: Permissions to list and to remove the resources.
        schedules: When it runs.
        idle_hours: Hours without calls for resources that state no end; None for no default.
        group: Group of the schedules; that of the account if None.

    Attributes:
        handler: The function.
        caller: Role of the schedules.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        context: IamContext,
        kinds: Sequence[str],
        what: str,
        log_name: str,
        statements: Sequence[iam.PolicyStatement],
        schedules: Sequence[RemovalSchedule],
        idle_hours: int | None = None,
        group: scheduler.CfnScheduleGroup | None = None,
    ) -> None:
        super().__init__(scope, id)
        hours = {} if idle_hours is None else {"IDLE_HOURS": str(idle_hours)}
        self.handler = HandlerFunction(
            self,
            "Undeploy",
            module="undeploy.main",
            context=context,
            log_name=log_name,
            minutes=5,
            variables={
                "PREFIX": names.prefix,
                "NAMESPACE": names.metrics,
                "KINDS": ",".join(kinds),
                **hours,
            },
            statements=[
                # Reading metrics supports no resource.
                allow("ReadMetrics", ["cloudwatch:GetMetricData"], ["*"]),
                *statements,
                put_metrics(names.metrics),
            ],
        )
        self.caller: iam.IRole = ServiceRole(
            self,
            "Caller",
            service="scheduler.amazonaws.com",
            description="Lets the schedule call the undeploy function",
            statements=[
                allow("Call", ["lambda:InvokeFunction"], [self.handler.function.function_arn])
            ],
        ).role
        for schedule in schedules:
            self._schedule(schedule, what, group)

    def _schedule(
        self, schedule: RemovalSchedule, what: str, group: scheduler.CfnScheduleGroup | None
    ) -> None:
        scheduler.CfnSchedule(
            self,
            schedule.id,
            description=f"Removes {schedule.only} {what}",
            group_name=group.ref if group else None,
            schedule_expression=schedule.expression,
            schedule_expression_timezone=schedule.zone,
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=self.handler.function.function_arn,
                role_arn=self.caller.role_arn,
                input=f'{{"only": "{schedule.only}"}}',
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_retry_attempts=5, maximum_event_age_in_seconds=3600
                ),
            ),
        )


def removal_of_throughput(names: ResourceNames) -> list[iam.PolicyStatement]:
    """Return the permissions to list provisioned throughput, and to delete that of the environment.

    Args:
        names: Names of the environment.
    """
    throughput = [names.arn("bedrock", "provisioned-model/*")]
    return [
        # Listing throughput supports no resource.
        allow("ListThroughput", ["bedrock:ListProvisionedModelThroughputs"], ["*"]),
        allow("ReadTags", ["bedrock:ListTagsForResource"], throughput),
        allow(
            "Remove",
            ["bedrock:DeleteProvisionedModelThroughput"],
            throughput,
            {"StringEquals": {"aws:ResourceTag/TemperPrefix": names.prefix}},
        ),
    ]


def removal_of_endpoints(names: ResourceNames) -> list[iam.PolicyStatement]:
    """Return the permissions to list endpoints, and to delete those of the environment.

    Args:
        names: Names of the environment.
    """
    prefix = names.prefix
    kinds = ("endpoint", "endpoint-config", "inference-component", "model")
    ours = [names.arn("sagemaker", f"{kind}/{prefix}-*") for kind in kinds]
    return [
        # Listing supports no resource.
        allow(
            "ListEndpoints",
            [
                "application-autoscaling:DescribeScalableTargets",
                "sagemaker:ListEndpoints",
                "sagemaker:ListInferenceComponents",
            ],
            ["*"],
        ),
        allow(
            "RemoveEndpoints",
            [
                "sagemaker:DeleteEndpoint",
                "sagemaker:DeleteEndpointConfig",
                "sagemaker:DeleteInferenceComponent",
                "sagemaker:DeleteModel",
                "sagemaker:DescribeEndpoint",
                "sagemaker:DescribeEndpointConfig",
                "sagemaker:ListTags",
            ],
            ours,
        ),
        allow(
            "StopScaling",
            ["application-autoscaling:DeregisterScalableTarget"],
            [names.arn("application-autoscaling", "scalable-target/*")],
            {"StringEquals": {"application-autoscaling:service-namespace": "sagemaker"}},
        ),
        # CloudFormation deletes with the role that the stack was deployed with.
        allow(
            "RemoveStacks",
            ["cloudformation:DeleteStack"],
            [names.arn("cloudformation", f"stack/{prefix}-serving-*/*")],
        ),
    ]
