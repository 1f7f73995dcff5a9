"""Tests of the checks of the monitor, against AWS's shapes of requests and responses."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from catalog import exit_codes, run_metrics
from stacks.handlers.monitor import (
    alarm_path,
    cluster_jobs,
    nan_losses,
    run_endings,
    serving,
    training_jobs,
    training_plans,
)
from stacks.handlers.monitor.faults import FAULTS, HEARTBEAT, Fault
from stacks.handlers.monitor.main import MonitorSettings, monitor
from stacks.handlers.monitor.scope import Scope
from tests.infra.handlers.conftest import NOW, Stub
from tests.infra.handlers.test_job_faults import LIMITS

DEVICES = {"ml.p4d.24xlarge": 8}
ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/"
DEV = Scope("dev")
OURS = [{"Key": "Environment", "Value": "dev"}]
OTHERS = [{"Key": "Environment", "Value": "prod"}]
JOB: dict[str, Any] = {
    "TrainingJobStatus": "InProgress",
    "SecondaryStatus": "Training",
    "TrainingStartTime": NOW - timedelta(hours=2),
    "CreationTime": NOW - timedelta(hours=3),
    "ResourceConfig": {
        "InstanceType": "ml.p4d.24xlarge",
        "InstanceCount": 1,
        "VolumeSizeInGB": 100,
    },
    "AlgorithmSpecification": {
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*)"}],
    },
    "ModelArtifacts": {"S3ModelArtifacts": "s3://b/k"},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
}


def _described(name: str, **changes: Any) -> dict[str, Any]:
    return {**JOB, "TrainingJobName": name, "TrainingJobArn": ARN + name, **changes}


def _listed(*names: str) -> dict[str, Any]:
    return {
        "TrainingJobSummaries": [
            {
                "TrainingJobName": name,
                "TrainingJobArn": ARN + name,
                "CreationTime": NOW,
                "TrainingJobStatus": "InProgress",
            }
            for name in names
        ]
    }


def _metrics(*series: list[float]) -> dict[str, Any]:
    """Return a response of GetMetricData; queries are numbered in the order of the request."""
    return {
        "MetricDataResults": [
            {
                "Id": f"q{index}",
                "Label": str(index),
                "StatusCode": "Complete",
                "Timestamps": [NOW - timedelta(minutes=m) for m in range(len(values))],
                "Values": values,
            }
            for index, values in enumerate(series)
        ]
    }


def _jobs(stub: Stub, tags: list[dict[str, str]], *series: list[float], **job: Any) -> list[Fault]:
    """Return the faults of one job with these tags and metrics."""
    sagemaker, calls = stub("sagemaker")
    cloudwatch, metrics = stub("cloudwatch")
    calls.add_response("list_training_jobs", _listed("a"))
    calls.add_response("list_tags", {"Tags": tags}, {"ResourceArn": ARN + "a"})
    if tags == OURS:
        calls.add_response("describe_training_job", _described("a", **job))
    if series:
        metrics.add_response("get_metric_data", _metrics(*series))
    found = training_jobs.check(
        sagemaker, cloudwatch, scope=DEV, limits=LIMITS, devices=DEVICES, now=NOW
    )
    return list(found)


BUSY, IDLE, NOTHING = [760.0] * 40, [8.0] * 40, [[], [], [], [], []]


def test_a_job_with_faults_is_named(stub: Stub) -> None:
    [fault] = _jobs(stub, OURS, [1.0], [], IDLE, [], [])
    assert fault == Fault("a", "gpu-idle", "GPUs of host 1 at most 1 % busy")


def test_a_job_of_another_environment_is_left_alone(stub: Stub) -> None:
    assert _jobs(stub, OTHERS) == []


def test_a_job_without_tags_concerns_nobody(stub: Stub) -> None:
    assert _jobs(stub, []) == []


def test_a_job_with_fallbacks_is_judged_by_the_type_that_runs(stub: Stub) -> None:
    preferences = [{"InstanceType": "ml.p4d.24xlarge", "InstanceCount": 1}]
    resources = {
        "InstancePreferences": preferences,
        "SelectedInstanceType": "ml.p4d.24xlarge",
        "VolumeSizeInGB": 100,
    }
    [fault] = _jobs(stub, OURS, [1.0], [], IDLE, [], [], ResourceConfig=resources)
    assert fault.fault == "gpu-idle"


def test_a_job_that_resumed_after_an_interruption_is_not_stuck(stub: Stub) -> None:
    transitions = [
        {"Status": "Training", "StartTime": NOW - timedelta(hours=2)},
        {"Status": "Interrupted", "StartTime": NOW - timedelta(hours=1)},
        {"Status": "Training", "StartTime": NOW - timedelta(minutes=5)},
    ]
    assert _jobs(stub, OURS, *NOTHING, SecondaryStatusTransitions=transitions) == []
    [fault] = _jobs(stub, OURS, *NOTHING, SecondaryStatusTransitions=transitions[:1])
    assert fault.fault == "training-job-stuck"


@pytest.mark.parametrize("status", ["Uploading", "Interrupted", "Downloading", "Stopping"])
def test_a_job_that_does_not_train_now_is_left_alone(stub: Stub, status: str) -> None:
    assert _jobs(stub, OURS, SecondaryStatus=status) == []


@pytest.mark.parametrize(("minutes", "count"), [(30, 0), (90, 1)])
def test_a_job_that_waits_for_instances_is_pending(stub: Stub, minutes: int, count: int) -> None:
    created = NOW - timedelta(minutes=minutes)
    found = _jobs(stub, OURS, SecondaryStatus="Pending", CreationTime=created)
    assert [f.fault for f in found] == ["training-job-pending"] * count


def test_our_jobs_log_a_loss_and_a_speed() -> None:
    from launch.aws.create_training_job import metric_definitions

    assert {"loss", "tokens_per_second"} <= {metric["Name"] for metric in metric_definitions()}


def test_a_nan_is_found_in_the_log_of_a_job_of_ours_only(stub: Stub) -> None:
    logs, lines = stub("logs")
    sagemaker, jobs = stub("sagemaker")
    events = [
        {"logStreamName": f"{job}/algo-1-1700000000", "message": "step 7 loss nan lr 1e-4 "}
        for job in ("ours", "ours", "theirs", "gone")
    ]
    wanted = {"logGroupName": nan_losses.LOG_GROUP, "filterPattern": ANY, "startTime": ANY}
    lines.add_response("filter_log_events", {"events": events}, wanted)
    for job, tags in (("ours", OURS), ("theirs", OTHERS)):
        jobs.add_response("describe_training_job", _described(job))
        jobs.add_response("list_tags", {"Tags": tags}, {"ResourceArn": ARN + job})
    jobs.add_client_error(
        "describe_training_job", "ValidationException", "Requested resource not found."
    )
    found = list(nan_losses.check(logs, sagemaker, scope=DEV, now=NOW))
    assert found == [Fault("ours", "loss-is-nan", "step 7 loss nan lr 1e-4")]


def test_the_contract_of_runs_on_a_cluster_is_one() -> None:
    assert cluster_jobs.JOB_METRICS == run_metrics.JOB_METRICS
    assert cluster_jobs.HOST_METRICS == run_metrics.HOST_METRICS
    owners = (exit_codes.JOB_INVALID, exit_codes.DATA_INVALID)
    assert owners == cluster_jobs.OWNERS_ERRORS


def _cluster_run(stub: Stub, **values: list[float]) -> list[Fault]:
    """Return the faults of one run on a cluster that published these metrics."""
    cloudwatch, metrics = stub("cloudwatch")
    host = run_metrics.host_name("run", 1)
    for dimension, name, names in (
        (run_metrics.JOB_DIMENSION, "run", run_metrics.JOB_METRICS),
        (run_metrics.HOST_DIMENSION, host, run_metrics.HOST_METRICS),
    ):
        for metric in names:
            found = [{"Dimensions": [{"Name": dimension, "Value": name}]}]
            metrics.add_response(
                "list_metrics",
                {"Metrics": found if metric in values else []},
                {
                    "Namespace": "Temper/x",
                    "MetricName": metric,
                    "Dimensions": [{"Name": dimension}],
                    "RecentlyActive": "PT3H",
                },
            )
    order = (*run_metrics.JOB_METRICS, *run_metrics.HOST_METRICS)
    if any(name in run_metrics.HOST_METRICS for name in values):
        series = [values.get(name, []) for name in order]
    else:
        series = [values.get(name, []) for name in run_metrics.JOB_METRICS]
    metrics.add_response("get_metric_data", _metrics(*series))
    return list(cluster_jobs.check(cloudwatch, namespace="Temper/x", limits=LIMITS, now=NOW))


@pytest.mark.parametrize(
    ("values", "faults"),
    [
        ({"running": [1.0] * 60, "loss": [2.0] * 60}, []),
        ({"running": [1.0] * 60}, ["training-job-stuck"]),
        ({"running": [1.0] * 60, "loss": [2.0], "loss_not_finite": [1.0]}, ["loss-is-nan"]),
        ({"running": [1.0] * 60, "failed": [4.0]}, ["cluster-job-failed"]),
        ({"running": [1.0] * 60, "failed": [2.0]}, []),  # an invalid job file is its owner's error
        (
            {
                "running": [1.0] * 60,
                "loss": [2.0] * 60,
                "GPUUtilization": [8.0] * 60,
                "GPUCount": [8.0] * 60,
            },
            ["gpu-idle"],
        ),
    ],
)
def test_a_run_on_a_cluster_has_the_faults_of_a_training_job(
    stub: Stub, values: dict[str, list[float]], faults: list[str]
) -> None:
    assert [f.fault for f in _cluster_run(stub, **values)] == faults


def test_a_cluster_without_runs_costs_no_query(stub: Stub) -> None:
    cloudwatch, metrics = stub("cloudwatch")
    for _ in (*run_metrics.JOB_METRICS, *run_metrics.HOST_METRICS):
        metrics.add_response("list_metrics", {"Metrics": []})
    found = cluster_jobs.check(cloudwatch, namespace="Temper/x", limits=LIMITS, now=NOW)
    assert list(found) == []


SERVING = serving.ServingLimits(endpoint_latency_ms=10_000, bedrock_latency_ms=20_000)
FIVE = timedelta(minutes=5)


def _periods(*series: list[float]) -> dict[str, Any]:
    """Return series of periods of five minutes that end at or before `NOW` minus the delay."""
    newest = NOW - 2 * FIVE
    answer = _metrics(*series)
    for result in answer["MetricDataResults"]:
        result["Timestamps"] = [newest - FIVE * i for i in range(len(result["Values"]))]
    return answer


@pytest.mark.parametrize(
    ("errors", "latency", "faults"),
    [
        ([], [], []),  # a weekend without traffic
        ([4.0], [900.0] * 3, []),
        ([5.0], [], ["endpoint-errors"]),
        ([0.0, 50.0], [], []),  # over
        ([], [11e6] * 3, ["endpoint-latency"]),
        ([], [11e6, 9e6, 11e6], []),
        ([], [11e6], []),  # one slow call and no other
    ],
)
def test_endpoints_of_the_environment_are_judged(
    stub: Stub, errors: list[float], latency: list[float], faults: list[str]
) -> None:
    sagemaker, calls = stub("sagemaker")
    cloudwatch, metrics = stub("cloudwatch")
    arn = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/"
    times = {"CreationTime": NOW, "LastModifiedTime": NOW, "EndpointStatus": "InService"}
    listed = [
        {"EndpointName": name, "EndpointArn": arn + name, **times} for name in ("ours", "theirs")
    ]
    calls.add_response("list_endpoints", {"Endpoints": listed})
    calls.add_response("list_tags", {"Tags": OURS}, {"ResourceArn": arn + "ours"})
    described = {**listed[0], "EndpointConfigName": "c"}
    described["ProductionVariants"] = [{"VariantName": "main"}]
    calls.add_response("describe_endpoint", described, {"EndpointName": "ours"})
    calls.add_response("list_tags", {"Tags": OTHERS}, {"ResourceArn": arn + "theirs"})
    metrics.add_response("get_metric_data", _periods(errors, latency))
    found = serving.check_endpoints(sagemaker, cloudwatch, scope=DEV, limits=SERVING, now=NOW)
    assert [(f.resource, f.fault) for f in found] == [("ours/main", fault) for fault in faults]


def test_models_that_jobs_call_are_judged(stub: Stub) -> None:
    bedrock, calls = stub("bedrock")
    cloudwatch, metrics = stub("cloudwatch")
    calls.add_response("list_provisioned_model_throughputs", {"provisionedModelSummaries": []})
    calls.add_response("list_imported_models", {"modelSummaries": []})
    metrics.add_response("get_metric_data", _periods([3.0, 1.0, 2.0], [0.0], [100.0] * 3))
    found = serving.check_models(
        bedrock,
        cloudwatch,
        prefix="temper-dev",
        models=["amazon.nova-lite-v1:0"],
        scope=DEV,
        limits=SERVING,
        now=NOW,
    )
    [fault] = list(found)
    assert (fault.resource, fault.fault) == ("amazon.nova-lite-v1:0", "bedrock-throttled")


@pytest.mark.parametrize(("hours", "count"), [(48, 0), (20, 1)])
def test_a_plan_is_named_a_day_before_its_end(stub: Stub, hours: int, count: int) -> None:
    sagemaker, calls = stub("sagemaker")
    arn = "arn:aws:sagemaker:us-east-1:123456789012:training-plan/winter"
    plan = {
        "TrainingPlanArn": arn,
        "TrainingPlanName": "winter",
        "Status": "Active",
        "EndTime": NOW + timedelta(hours=hours),
    }
    calls.add_response("describe_training_plan", plan, {"TrainingPlanName": "winter"})
    found = list(training_plans.check(sagemaker, plans=[arn], now=NOW))
    assert [f.fault for f in found] == ["training-plan-ending"] * count


def test_what_would_lose_a_page_is_named_and_no_url_is_shown(stub: Stub) -> None:
    sns, topics = stub("sns")
    cloudwatch, alarms = stub("cloudwatch")
    topic = "arn:aws:sns:us-east-1:123456789012:pages"
    subscriptions = [
        {"SubscriptionArn": "PendingConfirmation", "Protocol": "email", "Endpoint": "a@b.example"},
        {
            "SubscriptionArn": "PendingConfirmation",
            "Protocol": "https",
            "Endpoint": "https://events.example/integration/KEY/enqueue",
        },
        {"SubscriptionArn": f"{topic}:1", "Protocol": "email", "Endpoint": "c@d.example"},
    ]
    topics.add_response(
        "list_subscriptions_by_topic", {"Subscriptions": subscriptions}, {"TopicArn": topic}
    )
    alarms.add_response(
        "describe_alarms",
        {
            "MetricAlarms": [
                {"AlarmName": "temper-dev-gpu-idle", "ActionsEnabled": False},
                {"AlarmName": "temper-dev-key-disabled", "ActionsEnabled": True},
            ]
        },
    )
    found = list(alarm_path.check(sns, cloudwatch, topics=[topic], prefix="temper-dev"))
    assert [f.resource for f in found] == ["a@b.example", "events.example", "temper-dev-gpu-idle"]
    assert "KEY" not in str(found)


SETTINGS = MonitorSettings(
    source="temper.x",
    namespace="Temper/x",
    prefix="temper-dev",
    environment="dev",
    thresholds=vars(LIMITS),
    serving={"endpoint_latency_ms": 10_000, "bedrock_latency_ms": 20_000},
    devices=DEVICES,
    plans=[],
    models=[],
    bedrock=False,
    clusters=False,
    topics=[],
)


@pytest.fixture
def account(stub: Stub) -> tuple[Callable[[str], Any], dict[str, Stubber]]:
    """Clients of an account in which nothing runs, and their stubbers."""
    made = {name: stub(name) for name in ("sagemaker", "cloudwatch", "logs", "sns", "events")}
    stubbers = {name: stubber for name, (_, stubber) in made.items()}
    return (lambda name: made[name][0]), stubbers


def _nothing_else(stubbers: dict[str, Stubber]) -> None:
    stubbers["logs"].add_response("filter_log_events", {"events": []})
    stubbers["sagemaker"].add_response("list_endpoints", {"Endpoints": []})
    stubbers["cloudwatch"].add_response("describe_alarms", {"MetricAlarms": []})


def test_a_quiet_account_publishes_the_heartbeat_alone(
    account: tuple[Callable[[str], Any], dict[str, Stubber]],
) -> None:
    client, stubbers = account
    stubbers["sagemaker"].add_response("list_training_jobs", _listed())
    _nothing_else(stubbers)
    beat = {"MetricName": HEARTBEAT, "Value": 1, "Unit": "Count", "Timestamp": NOW}
    stubbers["cloudwatch"].add_response(
        "put_metric_data", {}, {"Namespace": "Temper/x", "MetricData": [beat]}
    )
    assert set(monitor(client=client, settings=SETTINGS, now=NOW).values()) == {0}


def test_a_check_that_fails_withholds_the_heartbeat_and_no_other_check(
    account: tuple[Callable[[str], Any], dict[str, Stubber]],
) -> None:
    client, stubbers = account
    stubbers["sagemaker"].add_client_error("list_training_jobs", "ThrottlingException")
    _nothing_else(stubbers)
    with pytest.raises(RuntimeError, match=r"1 checks failed: training jobs: .*Throttling"):
        monitor(client=client, settings=SETTINGS, now=NOW)


def test_faults_are_counted_and_told(
    account: tuple[Callable[[str], Any], dict[str, Stubber]],
) -> None:
    client, stubbers = account
    stubbers["sagemaker"].add_response("list_training_jobs", _listed("a"))
    stubbers["sagemaker"].add_response("list_tags", {"Tags": OURS})
    stubbers["sagemaker"].add_response("describe_training_job", _described("a"))
    stubbers["cloudwatch"].add_response("get_metric_data", _metrics([1.0], [], IDLE, [], []))
    _nothing_else(stubbers)
    stubbers["cloudwatch"].add_response("put_metric_data", {})
    detail = {"job": "a", "fault": "gpu-idle", "reason": "GPUs of host 1 at most 1 % busy"}
    entry = {"Source": "temper.x", "DetailType": "Temper Fault", "Detail": json.dumps(detail)}
    refused = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}
    stubbers["events"].add_response("put_events", refused, {"Entries": [entry]})
    with pytest.raises(RuntimeError, match="1 of 1 events"):
        monitor(client=client, settings=SETTINGS, now=NOW)


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len(set(FAULTS)) == len(FAULTS)


def test_an_ended_run_becomes_an_event_of_its_creator(
    account: tuple[Callable[[str], Any], dict[str, Stubber]],
) -> None:
    client, stubbers = account
    creator = run_metrics.creator_dimension("CORP/änne")
    listed = {
        "Metrics": [
            {
                "Dimensions": [
                    {"Name": run_metrics.JOB_DIMENSION, "Value": "math-1"},
                    {"Name": run_metrics.CREATOR_DIMENSION, "Value": creator},
                ]
            }
        ]
    }
    cloudwatch = stubbers["cloudwatch"]
    dimensions = [{"Name": "TrainingJobName"}, {"Name": "Creator"}]
    for metric in ("running", run_metrics.ENDED):
        cloudwatch.add_response(
            "list_metrics",
            listed,
            {
                "Namespace": "Temper/x",
                "MetricName": metric,
                "Dimensions": dimensions,
                "RecentlyActive": "PT3H",
            },
        )
    cloudwatch.add_response("get_metric_data", _metrics([75.0]))
    [ending] = run_endings.check(client("cloudwatch"), namespace="Temper/x", now=NOW)
    assert ending.detail() == {
        "job": "math-1",
        "creator": "CORP/änne",
        "status": "Stopped",
        "reason": "the run ended with exit code 75",
    }
    assert run_endings.STOPPED == exit_codes.STOPPED
    assert (run_endings.JOB, run_endings.CREATOR, run_endings.ENDED) == (
        run_metrics.JOB_DIMENSION,
        run_metrics.CREATOR_DIMENSION,
        run_metrics.ENDED,
    )


def test_a_run_that_still_trains_has_no_ending(stub: Stub) -> None:
    cloudwatch, metrics = stub("cloudwatch")
    dimensions = [
        {"Name": "TrainingJobName", "Value": "math-1"},
        {"Name": "Creator", "Value": "anna"},
    ]
    metrics.add_response("list_metrics", {"Metrics": [{"Dimensions": dimensions}]})
    metrics.add_response("list_metrics", {"Metrics": []})
    metrics.add_response("get_metric_data", _metrics([]))
    assert list(run_endings.check(cloudwatch, namespace="Temper/x", now=NOW)) == []
