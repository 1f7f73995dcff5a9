"""Alarms, each with a page to read, and the few composites that page people."""

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
    """One thing that can go wrong. `name` is also its runbook's name."""

    name: str
    trouble: str
    what: str
    cause: str
    metric: cloudwatch.IMetric
    threshold: float
    periods: int = 1
    below: bool = False


class AlarmSet(Construct):
    """One alarm per spec; one composite per trouble, which alone pages.

    A fault that sets off several alarms of one trouble pages once. `topics` says by trouble where
    its composite goes.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        prefix: str,
        specs: Sequence[AlarmSpec],
        troubles: Mapping[str, str],
        topics: Mapping[str, sns.ITopic],
    ) -> None:
        super().__init__(scope, id)
        self.alarms = {spec.name: self._alarm(prefix, spec) for spec in specs}
        self.composites = []
        for trouble, meaning in troubles.items():
            members = [spec.name for spec in specs if spec.trouble == trouble]
            if not members:
                continue
            composite = cloudwatch.CompositeAlarm(
                self,
                "".join(part.title() for part in trouble.split("-")),
                composite_alarm_name=f"{prefix}-{trouble}",
                alarm_description=f"{meaning} Runbook: {RUNBOOKS}/{trouble}.md",
                alarm_rule=cloudwatch.AlarmRule.from_string(
                    " OR ".join(f'ALARM("{prefix}-{member}")' for member in members)
                ),
            )
            for member in members:
                composite.node.add_dependency(self.alarms[member])
            composite.add_alarm_action(actions.SnsAction(topics[trouble]))
            composite.add_ok_action(actions.SnsAction(topics[trouble]))
            self.composites.append(composite)

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
            # No jobs, no calls, no numbers: that is rest, not trouble.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )


def counted(namespace: str, name: str) -> cloudwatch.Metric:
    """One of our own metrics, which is named as the alarm and its page are."""
    return cloudwatch.Metric(
        namespace=namespace,
        metric_name=name,
        statistic="Maximum",
        period=cdk.Duration.minutes(5),
    )


def asked(query: str, label: str) -> cloudwatch.MathExpression:
    """A Metrics Insights query: it covers endpoints and models that do not exist yet."""
    return cloudwatch.MathExpression(
        expression=query, label=label, period=cdk.Duration.minutes(5), using_metrics={}
    )


def total(metrics: Sequence[cloudwatch.IMetric], label: str) -> cloudwatch.MathExpression:
    """The sum of several metrics; an alarm takes ten at most."""
    named = {f"m{index}": metric for index, metric in enumerate(metrics)}
    return cloudwatch.MathExpression(
        expression=" + ".join(f"FILL({name}, 0)" for name in named),
        label=label,
        period=cdk.Duration.minutes(5),
        using_metrics=named,
    )
