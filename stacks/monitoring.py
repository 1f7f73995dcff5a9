"""Who learns of what: events, alarms, dashboards, the trail and the budget."""

from collections.abc import Sequence

from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.alarms import (
    TROUBLES,
    cluster_alarms,
    lookups,
    platform_alarms,
    serving_alarms,
    training_alarms,
)
from stacks.constructs.alarm_set import AlarmSet
from stacks.constructs.audit_trail import AuditTrail
from stacks.constructs.budget_actions import BudgetActions
from stacks.constructs.dashboards import Dashboards
from stacks.constructs.event_rules import EventRules
from stacks.constructs.handler_function import HandlerFunction
from stacks.constructs.job_monitor import JobMonitor
from stacks.constructs.message_topic import MessageTopic
from stacks.constructs.pager import AlarmPager
from stacks.security import SecurityStack
from stacks.settings import Environment
from stacks.storage import StorageStack
from stacks.temper_stack import TemperStack
from stacks.training import LOG_GROUP

# What a run prints when its loss stops being a number: its progress line, its guard's last words,
# and how other trainers log it.
NOT_A_NUMBER = '?"loss nan" ?"loss inf" ?"is nan (rows" ?"is inf (rows" ?"\'loss\': nan"'


class MonitoringStack(TemperStack):
    """Made last: it watches what the other stacks made."""

    def __init__(
        self,
        scope: Construct,
        *,
        environment: Environment,
        security: SecurityStack,
        storage: StorageStack,
        handlers: Sequence[HandlerFunction],
    ) -> None:
        super().__init__(scope, "monitoring", environment=environment)
        settings, estate = environment.monitoring, security.estate
        pages = MessageTopic(
            self,
            "Pages",
            names=self.names,
            key=estate.messages,
            emails=settings.page,
            publishers=[
                "cloudwatch.amazonaws.com",
                "budgets.amazonaws.com",
                "costalerts.amazonaws.com",
            ],
        ).topic
        news = MessageTopic(
            self, "Events", names=self.names, key=estate.messages, emails=settings.events
        ).topic
        tell = EventRules(self, "News", names=self.names, estate=estate, topic=news)
        watch = JobMonitor(
            self,
            "Jobs",
            names=self.names,
            estate=estate,
            role=security.monitoring_role,
            settings=settings,
        )
        self._count_nan_losses()
        pager = AlarmPager(
            self,
            "Pager",
            names=self.names,
            estate=estate,
            memory=tell.memory,
            pages=pages,
            lookups=lookups(LOG_GROUP, NOT_A_NUMBER),
        )
        all_handlers = [*handlers, tell.handler, watch.handler, pager.handler]
        lustre = storage.lustre.file_system.ref if storage.lustre else None
        self.alarm_set = AlarmSet(
            self,
            "Alarms",
            prefix=self.names.prefix,
            specs=[
                *training_alarms(self.names, environment),
                *cluster_alarms(self.names, environment, lustre),
                *serving_alarms(self.names, environment),
                *platform_alarms(self.names, all_handlers),
            ],
            troubles=TROUBLES,
            # What tells that a function of ours fails must not pass through one.
            topics={
                trouble: pages if trouble == "platform-in-trouble" else pager.alarms
                for trouble in TROUBLES
            },
        )
        if settings.dashboards:
            Dashboards(
                self,
                "Dashboards",
                names=self.names,
                alarms=list(self.alarm_set.alarms),
                bedrock=environment.bedrock.enabled,
            )
        if settings.trail:
            AuditTrail(
                self,
                "Audit",
                names=self.names,
                estate=estate,
                models=storage.models,
                access_logs=storage.access_logs,
                days=settings.trail_days,
                removal=self.removal,
            )
        if settings.budget:
            BudgetActions(
                self,
                "Money",
                names=self.names,
                environment=environment,
                settings=settings.budget,
                topic=pages,
                engineer=security.engineer_role,
            )

    def _count_nan_losses(self) -> None:
        logs.CfnMetricFilter(
            self,
            "LossIsNan",
            log_group_name=LOG_GROUP,
            filter_pattern=NOT_A_NUMBER,
            metric_transformations=[
                logs.CfnMetricFilter.MetricTransformationProperty(
                    metric_namespace=self.names.metrics,
                    metric_name="loss-is-nan",
                    metric_value="1",
                )
            ],
        )
