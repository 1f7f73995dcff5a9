"""Account in which time passes: jobs, endpoints and metrics change, and the monitor runs.

The clients answer only what the monitor asks. Their shapes are those that
`tests/infra/handlers/test_monitor.py` checks against botocore's models.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from stacks.handlers.event_runbook import runbook_for
from stacks.handlers.event_scope import EventScope
from stacks.handlers.monitor.main import MonitorSettings, monitor
from stacks.handlers.monitor.scope import Scope
from tests.infra.alarms.evaluation import Samples
from tests.infra.alarms.metric_math import statistic_of

START = datetime(2026, 11, 20, tzinfo=UTC)
ENVIRONMENT, PREFIX = "everything", "temper-all"
NAMESPACE = f"Temper/{PREFIX}"
# Value of a metric in the minute that begins at that time; None without a datapoint.
Metric = Callable[[float], float | None]
MetricKey = tuple[str, str, tuple[tuple[str, str], ...]]


@dataclass
class Job:
    """SageMaker training job.

    Attributes:
        name: Its name.
        phases: (minute, secondary status), in order; the last one may be a final status.
        environment: Value of its tag `Environment`.
        definitions: Names of its metric definitions.
        resources: Its `ResourceConfig`.
        log: (minute, line) of its log.
    """

    name: str
    phases: Sequence[tuple[float, str]]
    environment: str = ENVIRONMENT
    definitions: Sequence[str] = ("loss", "tokens_per_second")
    resources: Mapping[str, Any] = field(
        default_factory=lambda: {"InstanceType": "ml.p4d.24xlarge", "InstanceCount": 1}
    )
    log: Sequence[tuple[float, str]] = ()

    @property
    def arn(self) -> str:
        """ARN of the job."""
        return f"arn:aws:sagemaker:us-east-1:111122223333:training-job/{self.name}"

    def status(self, minute: float) -> str | None:
        """Return the secondary status; None before the job was created."""
        begun = [status for since, status in self.phases if since <= minute]
        return begun[-1] if begun else None

    def described(self, minute: float) -> dict[str, Any]:
        """Return what DescribeTrainingJob answers."""
        past = [(since, status) for since, status in self.phases if since <= minute]
        trained = [since for since, status in past if status == "Training"]
        final = past[-1][1] in ("Completed", "Failed", "Stopped")
        return {
            "TrainingJobName": self.name,
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": past[-1][1] if final else "InProgress",
            "SecondaryStatus": past[-1][1],
            "CreationTime": _at(past[0][0]),
            **({"TrainingStartTime": _at(trained[0])} if trained else {}),
            "SecondaryStatusTransitions": [
                {"Status": status, "StartTime": _at(since)} for since, status in past
            ],
            "AlgorithmSpecification": {
                "MetricDefinitions": [{"Name": name, "Regex": "x"} for name in self.definitions]
            },
            "ResourceConfig": dict(self.resources),
        }


@dataclass
class Account:
    """Account and what happens in it.

    Attributes:
        jobs: Training jobs.
        endpoints: Tag `Environment` by name of the endpoint.
        metrics: Metrics that services and runs publish.
        plan_ends: Minute at which the training plan ends.
        pending: Recipients that have not confirmed their subscription.
        disabled: Alarms whose actions are disabled.
        events: (minute, event) that EventBridge delivers.
        runs: Minutes at which the schedule starts the monitor; None: every five.
    """

    jobs: Sequence[Job] = ()
    endpoints: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[MetricKey, Metric] = field(default_factory=dict)
    plan_ends: float = 1e6
    pending: Sequence[str] = ()
    disabled: Sequence[str] = ()
    events: Sequence[tuple[float, Mapping[str, Any]]] = ()
    runs: Sequence[float] | None = None

    def samples(self, hours: float) -> dict[str, Samples]:
        """Return the samples of the platform's own metrics, by name."""
        found: dict[str, list[tuple[float, float]]] = {}
        times = self.runs
        if times is None:
            # A schedule of EventBridge has a precision of a minute.
            times = [n * 5 + (n * 7 % 50) / 60 for n in range(int(hours * 12))]
        for minute in times:
            client = _Clients(self, minute)
            monitor(client=client, settings=SETTINGS, now=_at(minute))
            for metric in client.published:
                found.setdefault(metric["MetricName"], []).append((minute * 60, metric["Value"]))
        scope = EventScope(Scope(ENVIRONMENT), PREFIX, ("arn:aws:kms:r:a:key/ours",))
        for minute, event in self.events:
            name = runbook_for(event)
            if name and scope.covers(event, _Clients(self, minute)):
                found.setdefault(name, []).append((minute * 60, 1.0))
        return {name: sorted(values) for name, values in found.items()}


SETTINGS = MonitorSettings(
    source=f"temper.{PREFIX}",
    namespace=NAMESPACE,
    prefix=PREFIX,
    environment=ENVIRONMENT,
    thresholds={
        "stuck_minutes": 30,
        "slow_percent": 50,
        "gpu_idle_percent": 10,
        "gpu_memory_percent": 97,
        "disk_percent": 90,
        "pending_minutes": 60,
    },
    serving={"endpoint_latency_ms": 10_000, "bedrock_latency_ms": 20_000},
    devices={"ml.p4d.24xlarge": 8},
    plans=["arn:aws:sagemaker:us-east-1:111122223333:training-plan/winter"],
    models=["model"],
    bedrock=True,
    clusters=True,
    topics=["arn:aws:sns:us-east-1:111122223333:temper-all-pages"],
)


def _at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def _minute(moment: datetime) -> float:
    return (moment - START).total_seconds() / 60


class _Clients:
    """Factory of clients at one moment; each is this object, as no two share an operation.

    Methods, parameters and classes are called as in botocore.
    """

    class exceptions:
        """Error classes of a client."""

        ClientError = ClientError
        ResourceNotFoundException = ClientError

    def __init__(self, account: Account, minute: float) -> None:
        self.account, self.minute = account, minute
        self.published: list[dict[str, Any]] = []

    def __call__(self, service: str) -> Any:
        return self

    def get_paginator(self, operation: str) -> "_Paginator":
        return _Paginator(getattr(self, f"_{operation}"))

    def _list_training_jobs(self, **_: Any) -> dict[str, Any]:
        over = (None, "Completed", "Failed", "Stopped")
        jobs = [job for job in self.account.jobs if job.status(self.minute) not in over]
        summaries = [{"TrainingJobName": j.name, "TrainingJobArn": j.arn} for j in jobs]
        return {"TrainingJobSummaries": summaries}

    def _list_tags(self, ResourceArn: str) -> dict[str, Any]:
        name = ResourceArn.rpartition("/")[2]
        tags = {job.name: job.environment for job in self.account.jobs}
        tags.update(self.account.endpoints)
        value = tags.get(name)
        return {"Tags": [{"Key": "Environment", "Value": value}] if value else []}

    def describe_training_job(self, TrainingJobName: str) -> dict[str, Any]:
        [job] = [job for job in self.account.jobs if job.name == TrainingJobName]
        return job.described(self.minute)

    def _filter_log_events(self, startTime: int, **_: Any) -> dict[str, Any]:
        since = _minute(datetime.fromtimestamp(startTime / 1000, UTC))
        return {
            "events": [
                {"logStreamName": f"{job.name}/algo-1-1", "message": line}
                for job in self.account.jobs
                for at, line in job.log
                if since <= at <= self.minute
            ]
        }

    def _list_endpoints(self) -> dict[str, Any]:
        arn = "arn:aws:sagemaker:us-east-1:111122223333:endpoint/"
        return {
            "Endpoints": [
                {"EndpointName": name, "EndpointArn": arn + name} for name in self.account.endpoints
            ]
        }

    def describe_endpoint(self, EndpointName: str) -> dict[str, Any]:
        return {"ProductionVariants": [{"VariantName": "main"}]}

    def describe_training_plan(self, TrainingPlanName: str) -> dict[str, Any]:
        return {"Status": "Active", "EndTime": _at(self.account.plan_ends)}

    def _list_provisioned_model_throughputs(self, **_: Any) -> dict[str, Any]:
        return {"provisionedModelSummaries": []}

    def _list_imported_models(self) -> dict[str, Any]:
        return {"modelSummaries": []}

    def _list_subscriptions_by_topic(self, **_: Any) -> dict[str, Any]:
        pending = [
            {"SubscriptionArn": "PendingConfirmation", "Endpoint": name}
            for name in self.account.pending
        ]
        return {"Subscriptions": [*pending, {"SubscriptionArn": "arn:x", "Endpoint": "a@b"}]}

    def _describe_alarms(self, **_: Any) -> dict[str, Any]:
        alarms = [{"AlarmName": name, "ActionsEnabled": False} for name in self.account.disabled]
        return {"MetricAlarms": [*alarms, {"AlarmName": "well", "ActionsEnabled": True}]}

    def _list_metrics(self, **request: Any) -> dict[str, Any]:
        # A filter without a value matches the metrics that have such a dimension.
        # docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_ListMetrics.html
        required = {filtered["Name"] for filtered in request.get("Dimensions", ())}
        return {
            "Metrics": [
                {"Dimensions": [{"Name": n, "Value": v} for n, v in dimensions]}
                for namespace, name, dimensions in self.account.metrics
                if (namespace, name) == (request["Namespace"], request["MetricName"])
                and required <= {n for n, _ in dimensions}
            ]
        }

    def _get_metric_data(self, **request: Any) -> dict[str, Any]:
        results = []
        for query in request["MetricDataQueries"]:
            stat = query["MetricStat"]
            dimensions = tuple((d["Name"], d["Value"]) for d in stat["Metric"]["Dimensions"])
            key = (stat["Metric"]["Namespace"], stat["Metric"]["MetricName"], dimensions)
            metric = self.account.metrics.get(key)
            points = _points(metric, stat["Stat"], stat["Period"], request) if metric else []
            results.append(
                {
                    "Id": query["Id"],
                    "Timestamps": [_at(minute) for minute, _ in points],
                    "Values": [value for _, value in points],
                }
            )
        return {"MetricDataResults": results}

    def put_metric_data(self, MetricData: list[dict[str, Any]], **_: Any) -> None:
        self.published += MetricData

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        return {"FailedEntryCount": 0}


def _points(
    metric: Metric, statistic: str, period: int, request: Mapping[str, Any]
) -> list[tuple[float, float]]:
    """Return the datapoints of a metric, newest first."""
    length = period // 60
    first, last = int(_minute(request["StartTime"])), int(_minute(request["EndTime"]))
    found = []
    for begin in range(first - first % length, last - length + 1, length):
        values = [v for m in range(begin, begin + length) if (v := metric(m)) is not None]
        value = statistic_of(values, statistic)
        if value is not None:
            found.append((float(begin), value))
    return found[::-1]


class _Paginator:
    def __init__(self, operation: Callable[..., dict[str, Any]]) -> None:
        self._operation = operation

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        yield self._operation(**request)
