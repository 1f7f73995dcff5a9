"""Scenarios: events in an account, and exactly the alarms that must fire for them.

A new alarm needs a scenario in which it fires, and one with its metric in which it is silent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.infra.alarms.account import PREFIX, Account, Job, Metric, MetricKey
from tests.infra.alarms.evaluation import Samples
from tests.infra.alarms.metrics_and_events import (
    cluster,
    cluster_run,
    constant,
    endpoint,
    event,
    failed,
    fault,
    key_event,
    model,
    node,
    run_of,
)
from tests.infra.alarms.templates import ONLY

GIB = 1024**3
TRAINING = [(0, "Starting"), (2, "Pending"), (10, "Downloading"), (20, "Training")]


@dataclass(frozen=True)
class AccountScenario:
    """Course of events in an account.

    Attributes:
        title: What happens.
        fires: Alarms that fire; every other alarm stays silent.
        account: The account.
        hours: Length.
    """

    title: str
    fires: set[str]
    account: Account
    hours: float = 6


@dataclass(frozen=True)
class MetricScenario:
    """Course of metrics that AWS publishes.

    Attributes:
        title: What happens.
        alarm: The alarm.
        fires: Whether it fires.
        samples: Samples by id of the metric in the alarm.
        hours: Length.
    """

    title: str
    alarm: str
    fires: bool
    samples: Mapping[str, Samples] = field(default_factory=dict)
    hours: float = 6


def _spot(minute: float) -> bool:
    return 100 <= minute < 160


def _uninterrupted(value: float) -> Metric:
    return lambda m: value if 20 <= m < 300 and not _spot(m) else None


NORMAL_JOB = Job(
    "normal",
    [
        *TRAINING,
        (100, "Interrupted"),
        (101, "Pending"),
        (150, "Downloading"),
        (160, "Training"),
        (300, "Uploading"),
        (345, "Completed"),
    ],
)
NORMAL_METRICS: dict[MetricKey, Metric] = {
    key: _uninterrupted(metric(50) or 0) for key, metric in run_of("normal").items()
}
OTHER_TEAM = Job("theirs", TRAINING, environment="prod")
FOREIGN_METRICS = [Job("untagged", TRAINING, environment="", definitions=())]
BUSY_ENDPOINT = endpoint(
    "ours",
    Invocations=constant(100),
    ModelLatency=constant(2e6),
    Invocation5XXErrors=lambda m: 1.0 if m % 60 == 0 else 0.0,
)


def _job(title: str, fires: str, job: Job, **metrics: Any) -> AccountScenario:
    return AccountScenario(title, {fires}, Account([job], metrics=run_of(job.name, **metrics)))


def _cluster_run(title: str, fires: str, **metrics: Metric) -> AccountScenario:
    return AccountScenario(title, {fires}, Account(metrics=cluster_run("run", **metrics)))


LIFE_OF_A_CLUSTER = [
    (60, cluster("Info", "Cluster c update started successfully")),
    (70, cluster("Info", "EC2 Instance i-1 successfully provisioned in Cluster c and IG g")),
    (80, cluster("Info", "Root volume replacement started for Instance i-1 in IG g.")),
    (90, node("Healthy")),
    (100, cluster("Error", "Cluster c update failed", prefix="temper-other")),
]
NORMAL_DAY = Account(
    [NORMAL_JOB, OTHER_TEAM, *FOREIGN_METRICS],
    endpoints={"ours": "everything", "theirs": "prod"},
    metrics={
        **NORMAL_METRICS,
        **run_of("theirs", loss_until=60, gpu=0),
        **BUSY_ENDPOINT,
        **endpoint("theirs", Invocation5XXErrors=constant(50)),
        **model(InvocationThrottles=lambda m: 1.0 if m == 200 else 0.0, Invocations=constant(9)),
        **cluster_run("run", running=constant(1, 30, 200), loss=constant(1, 30, 200)),
    },
    events=[
        *LIFE_OF_A_CLUSTER,
        (110, failed("AlgorithmError: ExecuteUserScriptError")),
        (111, failed("AlgorithmError: ExecuteUserScriptError")),
        (120, failed("InternalServerError", environment="prod")),
        (121, failed("InternalServerError", environment="prod")),
        (130, failed("InternalServerError")),  # alone: the launcher retries it
        (140, key_event("arn:aws:kms:r:a:key/of-another-team")),
    ],
)
SELECTED = {
    "InstancePreferences": [{"InstanceType": "ml.p5.48xlarge", "InstanceCount": 1}],
    "SelectedInstanceType": "ml.p4d.24xlarge",
    "SelectedInstanceCount": 1,
}
ACCOUNTS = [
    AccountScenario("a weekend on which nothing runs", set(), Account(), hours=24),
    AccountScenario("a normal day", set(), NORMAL_DAY, hours=8),
    _job("loss ends while the job runs", "training-job-stuck", Job("a", TRAINING), loss_until=90),
    AccountScenario(
        "a long upload after the last loss",
        set(),
        Account(
            [Job("a", [*TRAINING, (60, "Uploading"), (180, "Completed")])],
            metrics=run_of("a", until=60),
        ),
    ),
    AccountScenario(
        "no capacity for hours",
        {"training-job-pending"},
        Account([Job("a", [(0, "Starting"), (3, "Pending"), (200, "Training")])]),
        hours=3,
    ),
    _job(
        "half the usual speed",
        "training-job-slow",
        Job("a", TRAINING),
        speed=lambda m: (1000.0 if m < 120 else 400.0) if m >= 20 else None,
    ),
    AccountScenario(
        "a NaN in the log of a job that then fails by its guard",
        {"loss-is-nan"},
        Account(
            [Job("a", [*TRAINING, (62, "Failed")], log=[(61, "step 9 loss nan")])],
            metrics=run_of("a", until=61),
            events=[(62, failed("AlgorithmError: loss is nan (rows 1, 2)"))],
        ),
    ),
    _job("idle GPUs although steps go on", "gpu-idle", Job("a", TRAINING), gpu=40),
    _job("idle GPUs with fallbacks", "gpu-idle", Job("a", TRAINING, resources=SELECTED), gpu=40),
    _job("GPU memory nearly full", "gpu-memory-full", Job("a", TRAINING), memory=790),
    _job("disk nearly full", "training-disk-full", Job("a", TRAINING), disk=95),
    AccountScenario(
        "a deployment took a permission away",
        {"training-job-failed"},
        Account(
            events=[
                (100, failed("ClientError: Access denied when calling s3:GetObject")),
                (150, failed("ClientError: Access denied when calling s3:GetObject")),
            ]
        ),
    ),
    _cluster_run(
        "a run on the cluster ends with an error",
        "cluster-job-failed",
        running=constant(1, 20, 100),
        loss=constant(1, 20, 100),
        failed=constant(4, 100, 101),
    ),
    _cluster_run(
        "a run on the cluster hangs",
        "training-job-stuck",
        running=constant(1, 20),
        loss=constant(1, 20, 60),
    ),
    _cluster_run(
        "a run on the cluster diverges",
        "loss-is-nan",
        running=constant(1, 20, 62),
        loss=constant(1, 20, 60),
        loss_not_finite=constant(1, 61, 62),
    ),
    AccountScenario(
        "a GPU breaks", {"hyperpod-node-unhealthy"}, Account(events=[(60, node("Unhealthy"))])
    ),
    AccountScenario(
        "a node is replaced",
        {"hyperpod-node-replaced"},
        Account(
            events=[(60, cluster("Info", "Instance i is starting as part of instance replacement"))]
        ),
    ),
    AccountScenario(
        "no capacity for a node",
        {"hyperpod-cluster-failed"},
        Account(events=[(60, cluster("Error", "Failed to provision EC2 Instance in Cluster c"))]),
    ),
    AccountScenario(
        "a plan ends in the evening", {"training-plan-ending"}, Account(plan_ends=1600)
    ),
    AccountScenario(
        "an endpoint answers with errors",
        {"endpoint-errors"},
        Account(
            endpoints={"ours": "everything"},
            metrics=endpoint("ours", Invocation5XXErrors=constant(3, 60, 70)),
        ),
    ),
    AccountScenario(
        "an endpoint is slow",
        {"endpoint-latency"},
        Account(
            endpoints={"ours": "everything"},
            metrics=endpoint("ours", ModelLatency=constant(12e6, 60, 90)),
        ),
    ),
    AccountScenario(
        "the quota of a model is exceeded",
        {"bedrock-throttled"},
        Account(metrics=model(InvocationThrottles=constant(2, 60, 90))),
    ),
    AccountScenario(
        "a model answers with errors",
        {"bedrock-errors"},
        Account(metrics=model(InvocationServerErrors=constant(2, 60, 70))),
    ),
    AccountScenario(
        "a model is slow",
        {"bedrock-latency"},
        Account(metrics=model(InvocationLatency=constant(30_000, 60, 100))),
    ),
    AccountScenario(
        "a key of ours is disabled",
        {"key-disabled"},
        Account(events=[(60, key_event("arn:aws:kms:r:a:key/ours"))]),
    ),
    AccountScenario(
        "an image is refused",
        {"image-scan-findings"},
        Account(events=[(60, fault("image-scan-findings"))]),
    ),
    AccountScenario(
        "a build fails",
        {"image-build-failed"},
        Account(
            events=[
                (
                    60,
                    event(
                        "CodeBuild Build State Change",
                        "aws.codebuild",
                        **{"build-status": "FAILED", "project-name": f"{PREFIX}-images"},
                    ),
                )
            ]
        ),
    ),
    AccountScenario(
        "a recipient never confirmed", {"alarm-path-broken"}, Account(pending=["a@b.example"])
    ),
    AccountScenario(
        "an alarm whose actions were disabled",
        {"alarm-path-broken"},
        Account(disabled=[f"{PREFIX}-gpu-idle"]),
    ),
    AccountScenario(
        "the schedule of the monitor is disabled",
        {"monitor-silent"},
        Account(runs=[float(n) for n in range(0, 90, 5)]),
    ),
    AccountScenario(
        "two runs of the monitor are lost",
        set(),
        Account(runs=[float(n) for n in range(0, 361, 5) if n not in (60, 65)]),
    ),
]


def each(seconds: float, value: Callable[[float], float | None], hours: float = 6) -> Samples:
    """Return a sample in each period, where there is one."""
    times = [n * seconds for n in range(int(hours * 3600 / seconds) + 1)]
    return [(t, v) for t in times if (v := value(t)) is not None]


def _free(share: float) -> Samples:
    return each(60, lambda _: 19200 * GIB * share)


def _daily(value: Callable[[int], float | None]) -> dict[str, Samples]:
    """Return a sample of each day, also of the days before the scenario, where there is one."""
    samples = [(day * 86400 + 3600, value(day)) for day in range(-8, 10)]
    return {ONLY: [(second, one) for second, one in samples if one is not None]}


def _replays(hours: int, value: Callable[[int], float | None]) -> dict[str, Samples]:
    """Return a sample of each replay, also of those before the scenario, where there is one."""
    step = hours * 3600
    samples = [(number * step + 60, value(number)) for number in range(-8, 10)]
    return {ONLY: [(second, one) for second, one in samples if one is not None]}


def _calls(number: int, errors: Callable[[float], float]) -> dict[str, Samples]:
    """Return the sums of calls and of server errors per minute."""
    return {"calls": each(60, lambda _: float(number)), "errors": each(60, errors)}


HOURLY_JITTER = (0, 40, 5, 55, 20, 10)
METRICS = [
    MetricScenario(
        "committed throughput that is not called",
        "bedrock-idle-throughput",
        True,
        {ONLY: [(h * 3600 + HOURLY_JITTER[h % 6], 1.0) for h in range(24)]},
        hours=24,
    ),
    MetricScenario(
        "throughput is removed by the next run",
        "bedrock-idle-throughput",
        False,
        {ONLY: [(h * 3600 + HOURLY_JITTER[h % 6], float(h == 5)) for h in range(24)]},
        hours=24,
    ),
    MetricScenario(
        "an event fails with both of its retries",
        "handler-errors",
        True,
        {"m0": [(7000, 1), (7060, 1), (7180, 1)]},
    ),
    MetricScenario(
        "a retry repairs a throttled call", "handler-errors", False, {"m0": [(7000, 1)]}
    ),
    MetricScenario(
        "the monitor fails at each of its runs",
        "handler-errors",
        True,
        {"m1": each(300, lambda t: 1.0 if t > 3600 else 0.0)},
    ),
    MetricScenario(
        "a message is in a dead-letter queue",
        "undelivered-messages",
        True,
        {"m2": each(300, lambda t: 1.0 if t > 3600 else 0.0)},
    ),
    # SQS publishes nothing of a queue that is not used.
    MetricScenario("queues that are not used", "undelivered-messages", False),
    MetricScenario("the file system fills", "fsx-capacity-low", True, {ONLY: _free(0.12)}),
    MetricScenario("half of it is free", "fsx-capacity-low", False, {ONLY: _free(0.5)}),
    MetricScenario(
        "a job writes and removes its cache",
        "fsx-capacity-low",
        False,
        {ONLY: each(60, lambda t: 19200 * GIB * (0.1 if 3600 <= t < 4200 else 0.4))},
    ),
    MetricScenario(
        "exports wait for two hours",
        "fsx-export-failing",
        True,
        {ONLY: each(60, lambda t: min(t, 7200.0))},
    ),
    MetricScenario(
        "a large checkpoint is exported in 20 minutes",
        "fsx-export-failing",
        False,
        {ONLY: each(60, lambda t: max(0.0, 1200 - abs(t - 7200)))},
    ),
    MetricScenario(
        "the accounting database fills",
        "accounting-database",
        True,
        {ONLY: each(60, lambda _: 1 * GIB)},
    ),
    MetricScenario(
        "the accounting database is stopped",
        "accounting-database",
        True,
        {ONLY: each(60, lambda t: 15 * GIB if t < 3600 else None)},
    ),
    MetricScenario(
        "the accounting database fails over",
        "accounting-database",
        False,
        {ONLY: each(60, lambda t: None if 3600 <= t < 3900 else 15 * GIB)},
    ),
    MetricScenario(
        "an endpoint stays an hour after its end",
        "deployment-overdue",
        True,
        {ONLY: each(900, lambda t: float(t > 7200))},
    ),
    MetricScenario(
        "an endpoint is updated at its end, and removed by the next run",
        "deployment-overdue",
        False,
        {ONLY: each(900, lambda t: float(t == 7200))},
    ),
    MetricScenario(
        "an endpoint was created by hand",
        "deployment-without-end",
        True,
        {ONLY: each(900, lambda t: float(t > 7200))},
    ),
    MetricScenario(
        "each endpoint has an end",
        "deployment-without-end",
        False,
        {ONLY: each(900, lambda _: 0.0)},
    ),
    MetricScenario(
        "people ask something else from the second day on",
        "assistant-drift",
        True,
        _daily(lambda day: float(day > 0)),
        hours=96,
    ),
    MetricScenario(
        "one window is unlike the others",
        "assistant-drift",
        False,
        _daily(lambda day: float(day == 1)),
        hours=96,
    ),
    MetricScenario(
        "the job that watches a deployment fails each day",
        "assistant-unwatched",
        True,
        _daily(lambda day: 100.0 if day < 1 else None),
        hours=9 * 24,
    ),
    MetricScenario(
        "judged answers are worse from the second day on",
        "assistant-quality",
        True,
        _daily(lambda day: float(day > 0)),
        hours=96,
    ),
    MetricScenario(
        "judged answers are worse on one day",
        "assistant-quality",
        False,
        _daily(lambda day: float(day == 1)),
        hours=96,
    ),
    MetricScenario(
        "the judge fails each day",
        "assistant-quality",
        True,
        _daily(lambda day: 0.0 if day < 1 else None),
        hours=9 * 24,
    ),
    MetricScenario(
        "the job that watches a deployment fails once",
        "assistant-unwatched",
        False,
        _daily(lambda day: None if day == 1 else 100.0),
        hours=96,
    ),
    *(
        scenario
        for name, hours in (
            *(("assistant", 1), ("drafts", 24)),
            *(("support", 6), ("drafts-nova", 1), ("lite", 8)),
        )
        for scenario in (
            MetricScenario(
                f"{name} answers its golden prompts otherwise from some time on",
                f"{name}-golden",
                True,
                _replays(hours, lambda number: float(number >= 2)),
                hours=5 * hours,
            ),
            MetricScenario(
                f"one replay of the golden prompts of {name} finds another answer",
                f"{name}-golden",
                False,
                _replays(hours, lambda number: float(number == 2)),
                hours=5 * hours,
            ),
            MetricScenario(
                f"the function that replays the golden prompts of {name} fails each time",
                f"{name}-golden",
                True,
                _replays(hours, lambda number: 0.0 if number < 2 else None),
                hours=9 * hours,
            ),
        )
    ),
    *(
        scenario
        for name in ("assistant", "drafts")
        for scenario in (
            MetricScenario(
                f"a new version of {name} fails every tenth call",
                f"{name}-errors",
                True,
                _calls(60, lambda t: 6.0 if t > 7200 else 0.0),
            ),
            MetricScenario(
                f"one of the few calls of {name} fails",
                f"{name}-errors",
                False,
                _calls(2, lambda t: float(t == 7200)),
            ),
            MetricScenario(f"no calls of {name}", f"{name}-errors", False),
            MetricScenario(
                f"a new version of {name} is slow",
                f"{name}-latency",
                True,
                {ONLY: each(10, lambda t: 12e6 if t > 7200 else 2e6)},
            ),
            MetricScenario(
                f"one call of {name} in a minute is slow",
                f"{name}-latency",
                False,
                {ONLY: each(2, lambda t: 30e6 if t % 60 == 0 else 2e6)},
            ),
        )
    ),
    MetricScenario(
        "no instance is available for the first copy",
        "drafts-capacity",
        True,
        {ONLY: each(60, lambda t: 1.0 if t > 3600 else None)},
    ),
    MetricScenario(
        "the first copy starts within ten minutes",
        "drafts-capacity",
        False,
        {ONLY: each(60, lambda t: 1.0 if 3600 < t < 4200 else None)},
    ),
    MetricScenario("a call finds no copy", "drafts-wake", True, {ONLY: [(7200, 1.0)]}),
    MetricScenario("calls find a copy", "drafts-wake", False),
]
