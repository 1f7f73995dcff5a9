"""Definitions of the alarms: metric, threshold, and the composite alarm that pages for each.

Every alarm is named like its runbook in `docs/runbooks/`. Only the composite alarms page, one for
each area of the platform. To change a threshold, set it under `monitoring` in the environment file;
a threshold that is fixed is in this file.
"""

from collections.abc import Iterator, Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from stacks.constructs.alarm_set import (
    AlarmSpec,
    metrics_insights_query,
    platform_metric,
    sum_of_metrics,
)
from stacks.constructs.handler_function import HandlerFunction
from stacks.naming import ResourceNames
from stacks.settings import Environment

COMPOSITE_ALARMS = {
    "training-in-trouble": "A training job failed, or burns money without getting anywhere.",
    "cluster-in-trouble": "The HyperPod cluster or its file system needs a look.",
    "serving-in-trouble": "Callers of a model get errors, or wait too long.",
    "platform-in-trouble": "A key, an image or one of the platform's own functions needs a look.",
}
ENDPOINTS = 'SCHEMA("AWS/SageMaker", EndpointName, VariantName)'
BEDROCK = 'SCHEMA("AWS/Bedrock", ModelId)'
GIB = 1024**3


def alarm_lookups(job_log: str, nan_pattern: str) -> dict[str, dict[str, str]]:
    """Return where a page finds the affected resource of alarms that no event reports.

    Args:
        job_log: Log group of the training jobs.
        nan_pattern: CloudWatch Logs filter pattern of a NaN or infinite loss.

    Returns:
        By alarm name, either a Metrics Insights `query`, or the `group` and `pattern` of a log
            search.
    """
    by_endpoint, by_model = "GROUP BY EndpointName", "GROUP BY ModelId"
    return {
        "endpoint-errors": {
            "query": f"SELECT SUM(Invocation5XXErrors) FROM {ENDPOINTS} {by_endpoint}"
        },
        "endpoint-latency": {"query": f"SELECT MAX(ModelLatency) FROM {ENDPOINTS} {by_endpoint}"},
        "bedrock-throttled": {
            "query": f"SELECT SUM(InvocationThrottles) FROM {BEDROCK} {by_model}"
        },
        "bedrock-errors": {
            "query": f"SELECT SUM(InvocationServerErrors) FROM {BEDROCK} {by_model}"
        },
        "bedrock-latency": {"query": f"SELECT AVG(InvocationLatency) FROM {BEDROCK} {by_model}"},
        "loss-is-nan": {"group": job_log, "pattern": nan_pattern},
    }


def training_alarms(names: ResourceNames, environment: Environment) -> Iterator[AlarmSpec]:
    """Yield the alarms for jobs that fail, hang, slow down or leave their hardware unused."""
    limits, composite = environment.monitoring, "training-in-trouble"

    def alarm(name: str, what: str, cause: str) -> AlarmSpec:
        return AlarmSpec(name, composite, what, cause, platform_metric(names.metrics, name), 1)

    yield alarm(
        "training-job-failed",
        "A SageMaker job failed; the page names it and its reason.",
        "an error in the container, missing data, or no capacity.",
    )
    yield alarm(
        "training-job-stuck",
        f"A running job has shown no new loss for {limits.stuck_minutes} minutes.",
        "a rank waits for another that is gone, or data is read too slowly.",
    )
    yield alarm(
        "training-job-slow",
        f"A job runs below {limits.slow_percent} % of its own usual tokens per second.",
        "a throttled GPU, a slow disk, or a neighbour on the network.",
    )
    yield alarm(
        "loss-is-nan",
        "A job logged a loss that is not a number.",
        "a learning rate too high, fp16 overflow, or a batch without supervised tokens.",
    )
    yield alarm(
        "gpu-idle",
        f"Each GPU of a host was below {limits.gpu_idle_percent} % for half an hour.",
        "the job waits for data, for a peer, or is finished and does not end.",
    )
    yield alarm(
        "gpu-memory-full",
        f"GPU memory is above {limits.gpu_memory_percent} % per GPU.",
        "sequences longer than planned, or fragmentation: out-of-memory is near.",
    )
    yield alarm(
        "training-disk-full",
        f"A training host's disk is above {limits.disk_percent} %.",
        "too many checkpoints kept, or a cache larger than planned.",
    )


def cluster_alarms(
    names: ResourceNames, environment: Environment, file_system: str | None
) -> Iterator[AlarmSpec]:
    """Yield the alarms of the HyperPod cluster and of the Lustre file system it mounts.

    Args:
        names: Names of the environment.
        environment: Settings; without HyperPod there is no alarm.
        file_system: Id of the Lustre file system, if there is one.
    """
    if not environment.hyperpod.enabled:
        return
    composite = "cluster-in-trouble"
    for name, what, cause in (
        (
            "hyperpod-node-unhealthy",
            "The health agent found a broken node.",
            "a GPU error (XID, ECC), a link that is down, or a failing disk.",
        ),
        (
            "hyperpod-node-replaced",
            "HyperPod replaces a node.",
            "an unhealthy node, or a Spot reclaim; jobs resume by themselves.",
        ),
        (
            "hyperpod-cluster-failed",
            "The cluster's creation or update failed.",
            "no capacity, a quota, or a group without the EFA rules.",
        ),
    ):
        yield AlarmSpec(name, composite, what, cause, platform_metric(names.metrics, name), 1)
    if file_system:
        capacity = environment.storage.lustre.capacity_gib * GIB
        yield AlarmSpec(
            "fsx-capacity-low",
            composite,
            "Less than 15 % of the Lustre file system is free.",
            "checkpoints that nobody removed, or data imported but not released.",
            cloudwatch.Metric(
                namespace="AWS/FSx",
                metric_name="FreeDataStorageCapacity",
                dimensions_map={"FileSystemId": file_system},
                statistic="Sum",
                period=cdk.Duration.minutes(1),
            ),
            threshold=capacity * 0.15,
            periods=15,
            below=True,
        )


def serving_alarms(names: ResourceNames, environment: Environment) -> Iterator[AlarmSpec]:
    """Yield the alarms of SageMaker endpoints and, if Bedrock is enabled, of its models."""
    limits, composite = environment.monitoring, "serving-in-trouble"
    yield AlarmSpec(
        "endpoint-errors",
        composite,
        "SageMaker endpoints answered at least 5 calls with a server error within 5 minutes.",
        "the model server crashed, ran out of memory, or a deployment went wrong.",
        metrics_insights_query(
            f"SELECT SUM(Invocation5XXErrors) FROM {ENDPOINTS}", "server errors"
        ),
        threshold=5,
    )
    yield AlarmSpec(
        "endpoint-latency",
        composite,
        f"An endpoint's model took over {limits.endpoint_latency_ms} ms for 15 minutes.",
        "too few instances, prompts longer than planned, or a cold model.",
        metrics_insights_query(
            f"SELECT MAX(ModelLatency) FROM {ENDPOINTS}", "model latency, microseconds"
        ),
        threshold=limits.endpoint_latency_ms * 1000,
        periods=3,
    )
    if not environment.bedrock.enabled:
        return
    yield AlarmSpec(
        "bedrock-throttled",
        composite,
        "Bedrock refused calls because of their rate, three times in a row.",
        "more traffic than the quota or the provisioned units carry.",
        metrics_insights_query(
            f"SELECT SUM(InvocationThrottles) FROM {BEDROCK}", "throttled calls"
        ),
        threshold=1,
        periods=3,
    )
    yield AlarmSpec(
        "bedrock-errors",
        composite,
        "Bedrock answered at least 5 calls with a server error within 5 minutes.",
        "a fault of the service, or a custom model that does not start.",
        metrics_insights_query(
            f"SELECT SUM(InvocationServerErrors) FROM {BEDROCK}", "server errors"
        ),
        threshold=5,
    )
    yield AlarmSpec(
        "bedrock-latency",
        composite,
        f"Bedrock calls took over {limits.bedrock_latency_ms} ms on average for 15 minutes.",
        "long answers, or a model under load.",
        metrics_insights_query(
            f"SELECT AVG(InvocationLatency) FROM {BEDROCK}", "latency, milliseconds"
        ),
        threshold=limits.bedrock_latency_ms,
        periods=3,
    )
    yield AlarmSpec(
        "bedrock-idle-throughput",
        composite,
        "Provisioned throughput exists that nobody calls, and it was not removed.",
        "it is committed, or its removal failed.",
        platform_metric(names.metrics, "bedrock-idle-throughput"),
        threshold=1,
        periods=12,
    )


def platform_alarms(
    names: ResourceNames, handlers: Sequence[HandlerFunction]
) -> Iterator[AlarmSpec]:
    """Yield the alarms for keys, images and the platform's own Lambda functions."""
    composite = "platform-in-trouble"
    for name, what, cause in (
        (
            "key-disabled",
            "Somebody disabled a key of this account, or scheduled its deletion.",
            "a clean-up that went too far; data under the key cannot be read.",
        ),
        (
            "image-scan-findings",
            "An image was refused because of what its scan found.",
            "a base image with known vulnerabilities.",
        ),
    ):
        yield AlarmSpec(name, composite, what, cause, platform_metric(names.metrics, name), 1)
    minutes = cdk.Duration.minutes(5)
    yield AlarmSpec(
        "handler-errors",
        composite,
        "One of the platform's own functions failed.",
        "missing permissions after a change, or throttling by AWS.",
        sum_of_metrics(
            [h.function.metric_errors(period=minutes, statistic="Sum") for h in handlers],
            "errors of our functions",
        ),
        threshold=1,
        periods=3,
    )
    yield AlarmSpec(
        "undelivered-messages",
        composite,
        "An event could not be handled even after its retries, and waits in a queue.",
        "the function behind the queue fails; read handler-errors first.",
        sum_of_metrics(
            [
                h.undelivered.metric_approximate_number_of_messages_visible(
                    period=minutes, statistic="Maximum"
                )
                for h in handlers
            ],
            "messages waiting",
        ),
        threshold=1,
    )
