"""Check of all running jobs, endpoints and training plans every five minutes."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.aws_data.tables import instances
from stacks.constructs.handler_function import HandlerFunction
from stacks.naming import ResourceNames
from stacks.policies.iam_statements import IamContext
from stacks.settings import Environment

THRESHOLDS = {
    "stuck_minutes",
    "slow_percent",
    "gpu_idle_percent",
    "gpu_memory_percent",
    "disk_percent",
    "pending_minutes",
}


class JobMonitor(Construct):
    """Function `monitor` with the thresholds of the environment, and its schedule.

    Args:
        scope: Parent construct.
        id: Construct id.
        names: Names of the environment.
        context: Names and keys for IAM statements.
        role: Role of the function.
        environment: Settings.
        topics: Topics that people subscribe to.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        context: IamContext,
        role: iam.IRole,
        environment: Environment,
        topics: Sequence[sns.ITopic],
    ) -> None:
        super().__init__(scope, id)
        settings, groups = environment.monitoring, environment.hyperpod.groups
        variable = {
            "source": names.event_source,
            "namespace": names.metrics,
            "prefix": names.prefix,
            "environment": environment.name if settings.scope == "environment" else "",
            "thresholds": settings.model_dump(include=THRESHOLDS),
            "serving": settings.model_dump(include={"endpoint_latency_ms", "bedrock_latency_ms"}),
            "devices": {f"ml.{name}": facts.devices for name, facts in instances().items()},
            "plans": sorted({group.training_plan for group in groups if group.training_plan}),
            "models": list(environment.bedrock.judges),
            "bedrock": environment.bedrock.enabled,
            "clusters": environment.hyperpod.enabled,
            "topics": [topic.topic_arn for topic in topics],
        }
        self.handler = HandlerFunction(
            self,
            "Watch",
            module="monitor.main",
            # Name of the log group; a new name would replace the group and delete its events.
            log_name="watch-jobs",
            context=context,
            role=role,
            minutes=4,
            variables={"SETTINGS": cdk.Stack.of(self).to_json_string(variable)},
        )
        events.Rule(
            self,
            "EveryFiveMinutes",
            description="Look at the running jobs",
            schedule=events.Schedule.rate(cdk.Duration.minutes(5)),
            targets=[self.handler.event_target(retries=1, max_age=cdk.Duration.minutes(5))],
        )
