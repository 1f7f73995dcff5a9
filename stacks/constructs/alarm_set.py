"""Alarms, each with a runbook, and the composite alarms that page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

RUNBOOKS = "docs/runbooks"


@dataclass(frozen=True)
class AlarmSpec:
    """Definition of one alarm.

    Attributes:
        name: Name of the alarm without the prefix, and of its runbook.
        composite: Name of the composite alarm that pages for it.
        what: Condition that the alarm reports, as the first sentence of its description.
        cause: Likely causes, as the second.
        metric: Metric or math expression that is compared with the threshold.
        threshold: Value from which on the alarm fires.
        periods: Number of consecutive periods beyond the threshold.
        below: Fire below the threshold instead.
    """

    name: str
    composite: str
    what: str
    cause: str
    metric: cloudwatch.IMetric
    threshold: float
    periods: int = 1
    below: bool = False


class AlarmSet(Construct):
    """One alarm per spec, and one composite alarm per area, which alone pages.

    A fault that triggers several alarms of one area therefore pages once.

    Args:
        scope: Parent construct.
        id: Construct id.
        prefix: Prefix of the environment, which begins the names of all alarms.
        specs: Alarms to create.
        composites: Descriptions of the composite alarms, by name.
        topics: Topic of each composite alarm, by name.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        prefix: str,
        specs: Sequence[AlarmSpec],
        composites: Mapping[str, str],
        topics: Mapping[str, sns.ITopic],
    ) -> None:
        super().__init__(scope, id)
        self.alarms = {spec.name: self._alarm(prefix, spec) for spec in specs}
        self.composite_alarms = []
        for name, meaning in composites.items():
            members = [spec.name for spec in specs if spec.composite == name]
            if not members:
                continue
            composite_alarm = cloudwatch.CompositeAlarm(
                self,
                "".join(part.title() for part in name.split("-")),
                composite_alarm_name=f"{prefix}-{name}",
                alarm_description=f"{meaning} Runbook: {RUNBOOKS}/{name}.md",
                alarm_rule=cloudwatch.AlarmRule.from_string(
                    " OR ".join(f'ALARM("{prefix}-{member}")' for member in members)
                ),
            )
            # The rule refers to its members by name, so CloudFormation does not see the dependency,
            # and creating a composite alarm before its members fails.
            for member in members:
                composite_alarm.node.add_dependency(self.alarms[member])
            composite_alarm.add_alarm_action(actions.SnsAction(topics[name]))
            composite_alarm.add_ok_action(actions.SnsAction(topics[name]))
            self.composite_alarms.append(composite_alarm)

    def _alarm(self, prefix: str, spec: AlarmSpec) -> cloudwatch.Alarm:
        compare = cloudwatch.ComparisonOperator
        return cloudwatch.Alarm(
            self,
            "".join(part.title() for part in spec.name.split("-")),
            alarm_name=f"{prefix}-{spec.name}",
            alarm_description=(
                f"{spec.what} Likely cause: {spec.cause} Runbook: {RUNBOOKS}/{spec.name}.md"
            ),
            metric=spec.metric,
            threshold=spec.threshold,
            evaluation_periods=spec.periods,
            comparison_operator=compare.LESS_THAN_THRESHOLD
            if spec.below
            else compare.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            # Without jobs or calls there is no data, which is a quiet account and not a fault.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )


def platform_metric(namespace: str, name: str) -> cloudwatch.Metric:
    """Return one of the platform's own metrics; it has the same name as its alarm and runbook."""
    return cloudwatch.Metric(
        namespace=namespace,
        metric_name=name,
        statistic="Maximum",
        period=cdk.Duration.minutes(5),
    )


def metrics_insights_query(query: str, label: str) -> cloudwatch.MathExpression:
    """Return a Metrics Insights query as a metric.

    Unlike a list of metrics it also covers endpoints and models that are created later.
    """
    return cloudwatch.MathExpression(
        expression=query, label=label, period=cdk.Duration.minutes(5), using_metrics={}
    )


def sum_of_metrics(metrics: Sequence[cloudwatch.IMetric], label: str) -> cloudwatch.MathExpression:
    """Return the sum of several metrics. CloudWatch allows ten metrics per alarm at most."""
    named = {f"m{index}": metric for index, metric in enumerate(metrics)}
    return cloudwatch.MathExpression(
        expression=" + ".join(f"FILL({name}, 0)" for name in named),
        label=label,
        period=cdk.Duration.minutes(5),
        using_metrics=named,
    )
