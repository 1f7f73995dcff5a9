"""Stack of monitoring: events, alarms, dashboards, the audit trail and the budget."""

from collections.abc import Sequence

import aws_cdk as cdk
from constructs import Construct

from stacks.alarms import (
    COMPOSITE_ALARMS,
    cluster_alarms,
    platform_alarms,
    serving_alarms,
    training_alarms,
)
from stacks.constructs.alarm_set import AlarmSet
from stacks.constructs.audit_trail import AuditTrail
from stacks.constructs.budget_actions import BudgetActions
from stacks.constructs.dashboards import Dashboards
from stacks.constructs.event_rules import EventRules
from stacks.constructs.golden_replay import (
    GoldenReplay,
    ReplayedDeployment,
    bedrock_statements,
)
from stacks.constructs.handler_function import HandlerFunction
from stacks.constructs.job_monitor import JobMonitor
from stacks.constructs.message_topic import MessageTopic
from stacks.constructs.pager import AlarmPager
from stacks.constructs.slack_channel import SlackChannel
from stacks.constructs.ssm_parameters import publish_parameters
from stacks.security import SecurityStack
from stacks.settings import Environment
from stacks.storage import StorageStack
from stacks.temper_stack import TemperStack


class MonitoringStack(TemperStack):
    """Stack that observes the resources of all others, and is therefore deployed last."""

    def __init__(
        self,
        scope: Construct,
        *,
        environment: Environment,
        security: SecurityStack,
        storage: StorageStack,
        handlers: Sequence[HandlerFunction],
        accounting_database: str | None = None,
    ) -> None:
        super().__init__(scope, "monitoring", environment=environment)
        settings, context = environment.monitoring, security.context
        self.pages = pages_topic = MessageTopic(
            self,
            "Pages",
            names=self.names,
            key=context.messages,
            emails=settings.page,
            url_secrets=settings.page_https,
            publishers=[
                "cloudwatch.amazonaws.com",
                "budgets.amazonaws.com",
                "costalerts.amazonaws.com",
            ],
        ).topic
        if settings.slack:
            SlackChannel(
                self, "Slack", names=self.names, settings=settings.slack, topic=pages_topic
            )
        recipients = ", ".join(dict.fromkeys([*settings.page, *settings.events]))
        cdk.CfnOutput(
            self,
            "ConfirmSubscriptions",
            value=f"Pending confirmation: {recipients}. Each follows the link in the mail 'AWS "
            "Notification - Subscription Confirmation' within two days of the first deployment; "
            "until then nothing reaches them",
            description="Recipients that must confirm once",
        )
        events_topic = MessageTopic(
            self, "Events", names=self.names, key=context.messages, emails=settings.events
        ).topic
        runs_topic = MessageTopic(
            self,
            "Runs",
            names=self.names,
            key=context.messages,
            emails=(),
            topic_name=self.names.runs_topic,
        ).topic
        publish_parameters(self, self.names, {"monitoring/runs-topic": runs_topic.topic_arn})
        event_rules = EventRules(
            self,
            "News",
            names=self.names,
            context=context,
            topic=events_topic,
            pages=pages_topic,
            runs=runs_topic,
            environment=environment,
        )
        job_monitor = JobMonitor(
            self,
            "Jobs",
            names=self.names,
            context=context,
            role=security.monitoring_role,
            environment=environment,
            topics=[pages_topic, *([events_topic] if settings.events else [])],
        )
        pager = AlarmPager(
            self,
            "Pager",
            names=self.names,
            context=context,
            sent_events=event_rules.sent_events,
            pages=pages_topic,
        )
        all_handlers = [*handlers, event_rules.handler, job_monitor.handler, pager.handler]
        lustre = storage.lustre.file_system.ref if storage.lustre else None
        self.alarm_set = AlarmSet(
            self,
            "Alarms",
            prefix=self.names.prefix,
            specs=[
                *training_alarms(self.names, environment),
                *cluster_alarms(
                    self.names, environment, file_system=lustre, database=accounting_database
                ),
                *serving_alarms(self.names, environment),
                *platform_alarms(self.names, environment, all_handlers),
            ],
            composites=COMPOSITE_ALARMS,
            pager=pager.alarms,
            pages=pages_topic,
        )
        for golden in environment.bedrock.golden:
            GoldenReplay(
                self,
                f"Golden{''.join(part.title() for part in golden.name.split('-'))}",
                context=context,
                deployment=ReplayedDeployment(
                    golden.name, golden.to, f"{self.names.prefix}-{golden.name}"
                ),
                settings=golden,
                statements=bedrock_statements(context, golden.to),
                pages=pages_topic,
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
                context=context,
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
                topic=pages_topic,
                roles=[
                    security.engineer_role,
                    *([security.deployer_role] if security.deployer_role else []),
                    *([security.pipeline_role] if security.pipeline_role else []),
                ],
            )
