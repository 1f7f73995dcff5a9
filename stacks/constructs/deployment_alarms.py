"""Alarms of one deployment: two that roll an update back, and one for a lack of capacity."""

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.constructs.alarm_set import RUNBOOKS
from stacks.constructs.model_endpoint import VARIANT
from stacks.naming import ResourceNames
from stacks.settings.serving import DeploymentSettings

# Fewer calls than this within a minute say nothing about a share of errors.
FEWEST_CALLS = 5


class DeploymentAlarms(Construct):
    """Alarms that page with the name of the deployment.

    The alarms that roll back look at single minutes, because traffic waits on the new version only
    for as long as a step of the shift takes.

    Args:
        scope: Stack of the deployment.
        id: Construct id.
        names: Names of the environment.
        settings: The deployment.
        endpoint: Name of its endpoint.
        pages: Topic that people subscribe to.

    Attributes:
        rollback: Names of the alarms that roll an update back.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        names: ResourceNames,
        settings: DeploymentSettings,
        endpoint: str,
        pages: sns.ITopic,
    ) -> None:
        super().__init__(scope, id)
        self._endpoint, self._pages = endpoint, pages
        self._names, self._settings = names, settings
        self._dimensions: Mapping[str, str] = (
            {"InferenceComponentName": endpoint}
            if settings.to == "component"
            else {"EndpointName": endpoint, "VariantName": VARIANT}
        )
        self.rollback = [self._add_errors(), self._add_latency()]
        if settings.to == "component":
            self._add_capacity()

    def _add_errors(self) -> str:
        limit = self._settings.shifting.max_errors_percent
        share = cloudwatch.MathExpression(
            expression=f"IF(calls >= {FEWEST_CALLS}, 100 * errors / calls, 0)",
            label="server errors in percent of the calls",
            period=cdk.Duration.minutes(1),
            using_metrics={
                "errors": self._metric("Invocation5XXErrors", "Sum"),
                "calls": self._metric("Invocations", "Sum"),
            },
        )
        return self._alarm(
            "errors",
            f"More than {limit:g} % of the calls of {self._endpoint} ended with a server error; an "
            "update that is under way is rolled back.",
            "a version that does not fit the instance, or a model server that crashes.",
            share,
            limit,
        )

    def _add_latency(self) -> str:
        limit = self._settings.shifting.max_latency_ms
        return self._alarm(
            "latency",
            f"A call of {self._endpoint} in twenty took over {limit} ms; an update that is under "
            "way is rolled back.",
            "a slower version, too few instances, or longer prompts.",
            self._metric("ModelLatency", "p95"),
            limit * 1000,  # the metric is in microseconds
        )

    def _add_capacity(self) -> None:
        """Page if calls find no copy for longer than starting one takes."""
        self._alarm(
            "capacity",
            f"Calls of {self._endpoint} have found no copy for half an hour.",
            "no instance of the type is free, a quota is reached, or the model does not start.",
            self._metric("NoCapacityInvocationFailures", "Sum", minutes=10),
            1,
            periods=3,
        )

    def _metric(self, name: str, statistic: str, *, minutes: int = 1) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace="AWS/SageMaker",
            metric_name=name,
            dimensions_map=self._dimensions,
            statistic=statistic,
            period=cdk.Duration.minutes(minutes),
        )

    def _alarm(
        self,
        name: str,
        what: str,
        cause: str,
        metric: cloudwatch.IMetric,
        threshold: float,
        *,
        periods: int = 1,
    ) -> str:
        return add_deployment_alarm(
            self,
            self._endpoint,
            self._pages,
            name,
            what=what,
            cause=cause,
            metric=metric,
            threshold=threshold,
            periods=periods,
        )


def add_deployment_alarm(
    scope: Construct,
    endpoint: str,
    pages: sns.ITopic,
    name: str,
    *,
    what: str,
    cause: str,
    metric: cloudwatch.IMetric,
    threshold: float = 1,
    periods: int = 1,
    breaching: int | None = None,
    below: bool = False,
    missing_is_fault: bool = False,
) -> str:
    """Add an alarm of a deployment that pages, and return its name.

    Args:
        scope: Construct of the alarm.
        endpoint: Name of the endpoint.
        pages: Topic that people subscribe to.
        name: Name of the alarm and of its runbook, without the deployment.
        what: What has happened.
        cause: Its likely cause.
        metric: The metric.
        threshold: Value from which the metric is a fault.
        periods: Last periods that count.
        breaching: Periods among them with a fault; all if None.
        below: Take values below the threshold, and missing ones, for the fault.
        missing_is_fault: Take missing values for the fault.
    """
    operators, missing = cloudwatch.ComparisonOperator, cloudwatch.TreatMissingData
    alarm = cloudwatch.Alarm(
        scope,
        name.title(),
        alarm_name=f"{endpoint}-{name}",
        alarm_description=f"{what} Likely cause: {cause} Runbook: {RUNBOOKS}/deployment-{name}.md",
        metric=metric,
        threshold=threshold,
        evaluation_periods=periods,
        datapoints_to_alarm=breaching,
        comparison_operator=operators.LESS_THAN_THRESHOLD
        if below
        else operators.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        treat_missing_data=missing.BREACHING
        if below or missing_is_fault
        else missing.NOT_BREACHING,
    )
    alarm.add_alarm_action(actions.SnsAction(pages))
    return f"{endpoint}-{name}"
