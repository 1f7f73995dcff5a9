"""Check of all running jobs every five minutes."""

import json

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.aws_data.tables import instances
from stacks.constructs.handler_function import HandlerFunction
from stacks.naming import ResourceNames
from stacks.policies.iam_statements import IamContext
from stacks.settings.monitoring import MonitoringSettings


class JobMonitor(Construct):
    """Function `monitor_jobs` with the thresholds of the environment, and its schedule."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        context: IamContext,
        role: iam.IRole,
        settings: MonitoringSettings,
    ) -> None:
        super().__init__(scope, id)
        thresholds = settings.model_dump(
            include={
                "stuck_minutes",
                "slow_percent",
                "gpu_idle_percent",
                "gpu_memory_percent",
                "disk_percent",
            }
        )
        devices = {f"ml.{name}": facts.devices for name, facts in instances().items()}
        self.handler = HandlerFunction(
            self,
            "Watch",
            module="monitor_jobs",
            # Name of the log group; a new name would replace the group and delete its events.
            log_name="watch-jobs",
            context=context,
            role=role,
            minutes=4,
            variables={
                "SOURCE": names.event_source,
                "NAMESPACE": names.metrics,
                "THRESHOLDS": json.dumps(thresholds),
                "DEVICES": json.dumps(devices, separators=(",", ":")),
            },
        )
        events.Rule(
            self,
            "EveryFiveMinutes",
            description="Look at the running jobs",
            schedule=events.Schedule.rate(cdk.Duration.minutes(5)),
            targets=[self.handler.event_target(retries=1, max_age=cdk.Duration.minutes(5))],
        )
