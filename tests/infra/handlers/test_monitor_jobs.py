"""Tests of the faults found in the metrics of running jobs."""

import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY

from stacks.handlers.monitor_jobs import FAULTS, Thresholds, find_faults, monitor, running_jobs
from tests.infra.handlers.conftest import NOW, Stub

LIMITS = Thresholds(
    stuck_minutes=30, slow_percent=50, gpu_idle_percent=10, gpu_memory_percent=97, disk_percent=90
)
DEVICES = {"ml.p4d.24xlarge": 8}
JOB: dict[str, Any] = {
    "TrainingJobName": "support-lora",
    "TrainingJobStatus": "InProgress",
    "TrainingStartTime": NOW - timedelta(hours=2),
    "ResourceConfig": {"InstanceType": "ml.p4d.24xlarge", "InstanceCount": 1},
    "AlgorithmSpecification": {
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*)"}],
    },
}
WELL: dict[str, list[float]] = {
    "loss": [1.0],
    "loss age": [1.0],
    "speed": [1000.0] * 60,
    "gpu/1": [760.0] * 60,
    "memory/1": [640.0] * 60,
    "disk/1": [40.0] * 60,
}


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({}, None),
        ({"loss age": [45.0]}, "training-job-stuck"),
        ({"loss": [], "loss age": []}, "training-job-stuck"),
        ({"speed": [400.0] * 10 + [1000.0] * 50}, "training-job-slow"),
        ({"speed": [400.0] * 10 + [1000.0] * 5}, None),  # too young to have a usual speed
        ({"gpu/1": [72.0] * 60}, "gpu-idle"),  # 72 of 800 is 9 % of each GPU
        ({"gpu/1": [88.0] * 60}, None),  # 11 % of each: a single GPU at 88 % would be the same sum
        ({"gpu/1": [72.0] * 10}, None),  # not for half an hour yet
        ({"gpu/1": [0.0] * 5 + [700.0] * 55}, None),  # a checkpoint, not idleness
        ({"memory/1": [780.0] * 60}, "gpu-memory-full"),
        ({"disk/1": [95.0] + [40.0] * 59}, "training-disk-full"),
    ],
)
def test_a_fault_is_named_and_nothing_else(changed: dict[str, Any], fault: str | None) -> None:
    found = list(find_faults(JOB, {**WELL, **changed}, LIMITS, DEVICES, NOW))
    assert [f.fault for f in found] == ([fault] if fault else [])
    assert all(f.job == "support-lora" for f in found)


def test_a_job_that_just_began_is_not_stuck() -> None:
    young = {**JOB, "TrainingStartTime": NOW - timedelta(minutes=10)}
    assert list(find_faults(young, {}, LIMITS, DEVICES, NOW)) == []


def test_a_job_with_fallbacks_is_watched_by_the_type_that_runs() -> None:
    preferences = [{"InstanceType": "ml.p4d.24xlarge", "InstanceCount": 1}]
    resources = {"InstancePreferences": preferences, "SelectedInstanceType": "ml.p4d.24xlarge"}
    job = {**JOB, "ResourceConfig": resources}
    found = find_faults(job, {**WELL, "gpu/1": [72.0] * 60}, LIMITS, DEVICES, NOW)
    assert [fault.fault for fault in found] == ["gpu-idle"]


def test_a_job_that_resumed_after_an_interruption_is_not_stuck() -> None:
    transitions = [
        {"Status": "Training", "StartTime": NOW - timedelta(hours=2)},
        {"Status": "Interrupted", "StartTime": NOW - timedelta(hours=1)},
        {"Status": "Training", "StartTime": NOW - timedelta(minutes=5)},
    ]
    job = {**JOB, "SecondaryStatusTransitions": transitions}
    assert list(find_faults(job, {**WELL, "loss age": [60.0]}, LIMITS, DEVICES, NOW)) == []


def test_a_job_that_logs_no_loss_is_not_stuck() -> None:
    other = {**JOB, "AlgorithmSpecification": {"TrainingInputMode": "File"}}
    silent: dict[str, list[float]] = {**WELL, "loss": [], "loss age": []}
    assert list(find_faults(other, silent, LIMITS, DEVICES, NOW)) == []


def test_our_jobs_log_a_loss() -> None:
    from launch.aws.create_training_job import metric_definitions

    assert "loss" in {metric["Name"] for metric in metric_definitions()}


@pytest.mark.parametrize("status", ["Uploading", "Interrupted", "Downloading", "Stopping"])
def test_a_job_that_does_not_train_now_is_left_alone(stub: Stub, status: str) -> None:
    sagemaker, jobs = stub("sagemaker")
    jobs.add_response("list_training_jobs", _list("a"))
    jobs.add_response("describe_training_job", {**_describe("a"), "SecondaryStatus": status})
    assert list(running_jobs(sagemaker)) == []


def _metric_answer(**values: list[float]) -> dict[str, Any]:
    """Return a response of GetMetricData; queries are numbered in the order of the request."""
    order = ["loss", "speed", "gpu", "memory", "disk"]
    return {
        "MetricDataResults": [
            {
                "Id": f"q{index}",
                "Label": name,
                "StatusCode": "Complete",
                "Timestamps": [
                    NOW - timedelta(minutes=m) for m in range(len(values.get(name, [])))
                ],
                "Values": values.get(name, []),
            }
            for index, name in enumerate(order)
        ]
    }


def _describe(name: str) -> dict[str, Any]:
    return {
        **JOB,
        "TrainingJobName": name,
        "TrainingJobArn": f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://b/k"},
        "SecondaryStatus": "Training",
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "CreationTime": NOW,
        "ResourceConfig": {**JOB["ResourceConfig"], "VolumeSizeInGB": 100},
    }


def _list(*names: str, token: str | None = None) -> dict[str, Any]:
    summaries = [
        {
            "TrainingJobName": name,
            "TrainingJobArn": f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}",
            "CreationTime": NOW,
            "TrainingJobStatus": "InProgress",
        }
        for name in names
    ]
    return {"TrainingJobSummaries": summaries, **({"NextToken": token} if token else {})}


def test_every_running_job_is_looked_at_and_faults_are_told(stub: Stub) -> None:
    sagemaker, jobs = stub("sagemaker")
    cloudwatch, metrics = stub("cloudwatch")
    events, bus = stub("events")
    jobs.add_response("list_training_jobs", _list("well", token="more"))
    jobs.add_response("describe_training_job", _describe("well"), {"TrainingJobName": "well"})
    jobs.add_response("list_training_jobs", _list("idle"))
    jobs.add_response("describe_training_job", _describe("idle"), {"TrainingJobName": "idle"})
    metrics.add_response("get_metric_data", _metric_answer(loss=[1.0], gpu=[760.0] * 40))
    metrics.add_response("get_metric_data", _metric_answer(loss=[1.0], gpu=[8.0] * 40))
    counts = [
        {"MetricName": f, "Value": int(f == "gpu-idle"), "Unit": "Count", "Timestamp": NOW}
        for f in FAULTS
    ]
    metrics.add_response("put_metric_data", {}, {"Namespace": "Temper/x", "MetricData": counts})
    detail = {"job": "idle", "fault": "gpu-idle", "reason": "GPUs of host 1 at most 1 % busy"}
    entry = {"Source": "temper.x", "DetailType": "Temper Fault", "Detail": json.dumps(detail)}
    bus.add_response(
        "put_events", {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}, {"Entries": [entry]}
    )
    answer = monitor(
        sagemaker=sagemaker,
        cloudwatch=cloudwatch,
        events=events,
        source="temper.x",
        namespace="Temper/x",
        thresholds=LIMITS,
        devices=DEVICES,
        now=NOW,
    )
    assert answer["gpu-idle"] == 1
    assert sum(answer.values()) == 1


def _run(stub: Stub, sagemaker: Any, cloudwatch: Any, events: Any) -> dict[str, int]:
    return monitor(
        sagemaker=sagemaker,
        cloudwatch=cloudwatch,
        events=events,
        source="temper.x",
        namespace="Temper/x",
        thresholds=LIMITS,
        devices=DEVICES,
        now=NOW,
    )


def test_with_no_job_the_counts_are_zero(stub: Stub) -> None:
    sagemaker, jobs = stub("sagemaker")
    cloudwatch, metrics = stub("cloudwatch")
    events, _ = stub("events")
    jobs.add_response("list_training_jobs", _list())
    metrics.add_response("put_metric_data", {}, {"Namespace": "Temper/x", "MetricData": ANY})
    assert set(_run(stub, sagemaker, cloudwatch, events).values()) == {0}


def test_throttling_fails_the_run_so_that_it_is_retried(stub: Stub) -> None:
    sagemaker, jobs = stub("sagemaker")
    cloudwatch, _ = stub("cloudwatch")
    events, _ = stub("events")
    jobs.add_client_error("list_training_jobs", "ThrottlingException")
    with pytest.raises(ClientError, match="Throttling"):
        _run(stub, sagemaker, cloudwatch, events)


def test_events_that_the_bus_refuses_are_an_error(stub: Stub) -> None:
    sagemaker, jobs = stub("sagemaker")
    cloudwatch, metrics = stub("cloudwatch")
    events, bus = stub("events")
    jobs.add_response("list_training_jobs", _list("stuck"))
    jobs.add_response("describe_training_job", _describe("stuck"))
    metrics.add_response("get_metric_data", _metric_answer())
    metrics.add_response("put_metric_data", {})
    refused = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}]}
    bus.add_response("put_events", refused)
    with pytest.raises(RuntimeError, match="1 of 1 fault events"):
        _run(stub, sagemaker, cloudwatch, events)
