"""Alarms that page, each with a runbook, and the composite alarms of the areas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

RUNBOOKS = "docs/runbooks"
# docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-limits.html
METRICS_PER_ALARM = 10


@dataclass(frozen=True)
class AlarmSpec:
    """Definition of one alarm.

    Attributes:
        name: Name of the alarm without the prefix, and of its runbook.
        composite: Name of the composite alarm of its area.
        what: Condition that the alarm reports, as the first sentence of its description.
        cause: Likely causes, as the second.
        metric: Metric or math expression that is compared with the threshold.
        threshold: Value from which on the alarm fires.
        periods: Number of consecutive periods beyond the threshold.
        below: Fire below the threshold instead.
        missing: What a period without data counts as. Without jobs or calls there is no data, which
            is a quiet account and not a fault; a heartbeat is the opposite.
        direct: Page without the pager function, because the alarm is about the functions.
    """

    name: str
    composite: str
    what: str
    cause: str
    metric: cloudwatch.IMetric
    threshold: float
    periods: int = 1
    below: bool = False
    missing: Literal["notBreaching", "breaching"] = "notBreaching"
    direct: bool = False


class AlarmSet(Construct):
    """One alarm per spec, which pages, and one composite alarm per area, which gives the all-clear.

    Each alarm pages by itself: a composite alarm that is in ALARM would hide every later fault of
    its area. Its change to OK says once that nothing of the area is left.

    Args:
        scope: Parent construct.
        id: Construct id.
        prefix: Prefix of the environment, which begins the names of all alarms.
        specs: Alarms to create.
        composites: Descriptions of the composite alarms, by name.
        pager: Topic of the function that adds names to a page.
        pages: Topic that people subscribe to.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        prefix: str,
        specs: Sequence[AlarmSpec],
        composites: Mapping[str, str],
        pager: sns.ITopic,
        pages: sns.ITopic,
    ) -> None:
        super().__init__(scope, id)
        self.alarms = {spec.name: self._alarm(prefix, spec) for spec in specs}
        for spec in specs:
            topic = pages if spec.direct else pager
            self.alarms[spec.name].add_alarm_action(actions.SnsAction(topic))
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
            composite_alarm.add_ok_action(actions.SnsAction(pages))
            self.composite_alarms.append(composite_alarm)

    def _alarm(self, prefix: str, spec: AlarmSpec) -> cloudwatch.Alarm:
        compare = cloudwatch.ComparisonOperator
        treat = cloudwatch.TreatMissingData
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
            treat_missing_data=treat.BREACHING
            if spec.missing == "breaching"
            else treat.NOT_BREACHING,
        )


def platform_metric(
    namespace: str, name: str, *, statistic: str = "Maximum", minutes: int = 5
) -> cloudwatch.Metric:
    """Return one of the platform's own metrics; it has the same name as its alarm and runbook.

    Args:
        namespace: Namespace of the environment.
        name: Name of the metric.
        statistic: Statistic per period.
        minutes: Period.
    """
    return cloudwatch.Metric(
        namespace=namespace,
        metric_name=name,
        statistic=statistic,
        period=cdk.Duration.minutes(minutes),
    )


def sum_of_metrics(
    metrics: Sequence[cloudwatch.IMetric], label: str, *, minutes: int = 5
) -> cloudwatch.MathExpression:
    """Return the sum of several metrics.

    Args:
        metrics: The metrics, ten at most.
        label: Label of the sum.
        minutes: Period of each.
    """
    assert len(metrics) <= METRICS_PER_ALARM, f"{label}: {len(metrics)} metrics"
    named = {f"m{index}": metric for index, metric in enumerate(metrics)}
    return cloudwatch.MathExpression(
        expression=" + ".join(f"FILL({name}, 0)" for name in named),
        label=label,
        period=cdk.Duration.minutes(minutes),
        using_metrics=named,
    )
