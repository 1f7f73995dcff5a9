"""Replay of a deployment's golden prompts on a schedule: a function, its schedule and its alarm."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.constructs.deployment_alarms import add_deployment_alarm
from stacks.constructs.handler_function import HandlerFunction
from stacks.constructs.service_role import ServiceRole
from stacks.policies.iam_statements import IamContext, allow, read_key
from stacks.settings.golden import GoldenSection

_SHARED = (
    "account/__init__.py",
    "account/emf.py",
    "deployment/__init__.py",
    "deployment/golden_answers.py",
)
"""Files that the function shares with `temper watch`."""
_OF_BEDROCK = {
    "bedrock-import": ("imported-model", ["bedrock:ListTagsForResource"]),
    "bedrock-on-demand": ("custom-model-deployment", ["bedrock:GetCustomModelDeployment"]),
    "bedrock-throughput": ("provisioned-model", ["bedrock:GetProvisionedModelThroughput"]),
}
"""Kind of resource, and the actions that find it, by kind of deployment."""
_PERIODS = 2
_MINUTES = 10


@dataclass(frozen=True)
class ReplayedDeployment:
    """Deployment whose golden prompts are replayed.

    Attributes:
        name: Its name.
        kind: Its kind, as `temper deploy-model --to` has it.
        resource: Name of its endpoint, or of what Bedrock serves.
        component: Name of its inference component; empty without one.
    """

    name: str
    kind: str
    resource: str
    component: str = ""


class GoldenReplay(Construct):
    """Function that asks the golden prompts and publishes how many answers are as recorded.

    It calls the public endpoints of AWS with its role, as all functions of the platform do, and
    reaches no other address.

    Args:
        scope: Parent construct.
        id: Construct id.
        context: Names and keys of the environment.
        deployment: The deployment.
        settings: How often, and what agrees.
        statements: Permissions to find the deployment and to ask it.
        pages: Topic that people subscribe to; None for no alarm here.

    Attributes:
        handler: The function.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        context: IamContext,
        deployment: ReplayedDeployment,
        settings: GoldenSection,
        statements: Sequence[iam.PolicyStatement],
        pages: sns.ITopic,
    ) -> None:
        super().__init__(scope, id)
        names, name = context.names, deployment.name
        key = f"serving/{name}/watch/golden.jsonl"
        variable = {
            "name": name,
            "kind": deployment.kind,
            "resource": deployment.resource,
            "component": deployment.component,
            "bucket": names.bucket("runs"),
            "key": key,
            "namespace": names.metrics,
            "tolerance": settings.tolerance,
            "min_agreement": settings.min_percent / 100,
            "most": settings.most,
        }
        self.handler = HandlerFunction(
            self,
            "Replay",
            module="golden.replay",
            log_name=f"golden-{name}",
            context=context,
            minutes=_MINUTES,
            variables={"SETTINGS": json.dumps(variable, sort_keys=True)},
            shared=_SHARED,
            statements=[
                allow("ReadPrompts", ["s3:GetObject"], [f"{names.bucket_arn('runs')}/{key}"]),
                read_key(context.data, "Data"),
                *statements,
            ],
        )
        self._schedule(deployment, settings.every_hours)
        add_deployment_alarm(
            self,
            f"{names.prefix}-{name}",
            pages,
            "golden",
            what=f"{name} has answered its golden prompts otherwise than recorded, or was not "
            f"asked, for {_PERIODS * settings.every_hours} hours.",
            cause="another model, chat template, precision or setting answers, or the deployment "
            "does not.",
            metric=cloudwatch.Metric(
                namespace=names.metrics,
                metric_name="GoldenAlarm",
                dimensions_map={"Deployment": name},
                statistic="Maximum",
                period=cdk.Duration.hours(settings.every_hours),
            ),
            periods=_PERIODS,
            missing_is_fault=True,
        )

    def _schedule(self, deployment: ReplayedDeployment, hours: int) -> None:
        function = self.handler.function.function_arn
        caller = ServiceRole(
            self,
            "Caller",
            service="scheduler.amazonaws.com",
            description=f"Lets the schedule replay the golden prompts of {deployment.name}",
            statements=[allow("Call", ["lambda:InvokeFunction"], [function])],
        ).role
        scheduler.CfnSchedule(
            self,
            "Schedule",
            description=f"Asks {deployment.name} its golden prompts",
            schedule_expression="rate(1 hour)" if hours == 1 else f"rate({hours} hours)",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=function,
                role_arn=caller.role_arn,
                input="{}",
                # The next replay makes up for one that was not started.
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_retry_attempts=2, maximum_event_age_in_seconds=900
                ),
            ),
        )


def endpoint_statements(
    context: IamContext, deployment: ReplayedDeployment
) -> list[iam.PolicyStatement]:
    """Return the permissions to call an endpoint, and to see whether a component has copies.

    Args:
        context: Names and keys of the environment.
        deployment: The deployment.
    """
    names = context.names
    endpoint = names.arn("sagemaker", f"endpoint/{deployment.resource}")
    if not deployment.component:
        return [allow("Ask", ["sagemaker:InvokeEndpoint"], [endpoint])]
    component = names.arn("sagemaker", f"inference-component/{deployment.component}")
    return [
        allow("Ask", ["sagemaker:InvokeEndpoint"], [endpoint, component]),
        allow("SeeCopies", ["sagemaker:DescribeInferenceComponent"], [component]),
    ]


def bedrock_statements(context: IamContext, kind: str) -> list[iam.PolicyStatement]:
    """Return the permissions to find a deployment on Bedrock, and to call it.

    Args:
        context: Names and keys of the environment.
        kind: Kind of the deployment.
    """
    names = context.names
    resource, actions = _OF_BEDROCK[kind]
    # Ids are generated; the tag is that of everything that `temper deploy-model` makes.
    ours = {"StringEquals": {"aws:ResourceTag/TemperPrefix": names.prefix}}
    ask = allow(
        "Ask",
        sorted(["bedrock:InvokeModel", *actions]),
        [names.arn("bedrock", f"{resource}/*")],
        ours,
    )
    if kind != "bedrock-import":
        return [ask]
    # Listing supports no resource.
    return [allow("ListModels", ["bedrock:ListImportedModels"], ["*"]), ask]
