"""Definitions of the alarms: metric, threshold, and the area that each belongs to.

Every alarm is named like its runbook in `docs/runbooks/`, and pages. To change a threshold, set it
under `monitoring` in the environment file; a threshold that is fixed is in this file. What the job
monitor judges is in `stacks/handlers/monitor/`: its metric is the number of resources with a fault.
"""

from collections.abc import Iterator, Mapping, Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch

from stacks.constructs.alarm_set import AlarmSpec, platform_metric, sum_of_metrics
from stacks.constructs.handler_function import HandlerFunction
from stacks.handlers.monitor.faults import HEARTBEAT
from stacks.naming import ResourceNames
from stacks.settings import Environment

COMPOSITE_ALARMS = {
    "training-in-trouble": "A training job failed, or burns money without getting anywhere.",
    "cluster-in-trouble": "The HyperPod cluster or its file system needs a look.",
    "serving-in-trouble": "Callers of a model get errors, or wait too long.",
    "platform-in-trouble": "A key, an image or one of the platform's own functions needs a look.",
}
GIB = 1024**3
EXPORT_DELAY_SECONDS = 3600


def training_alarms(names: ResourceNames, environment: Environment) -> Iterator[AlarmSpec]:
    """Yield the alarms for jobs that fail, hang, slow down or leave their hardware unused."""
    limits, composite = environment.monitoring, "training-in-trouble"

    def alarm(name: str, what: str, cause: str) -> AlarmSpec:
        return AlarmSpec(name, composite, what, cause, platform_metric(names.metrics, name), 1)

    yield AlarmSpec(
        "training-job-failed",
        composite,
        "Two jobs failed within an hour for a cause outside the jobs.",
        "a permission or a key that changed with a deployment, or a fault of SageMaker.",
        platform_metric(names.metrics, "training-job-failed", statistic="Sum", minutes=60),
        threshold=2,
    )
    yield alarm(
        "training-job-stuck",
        f"A running job has shown no new loss for {limits.stuck_minutes} minutes.",
        "a rank waits for another that is gone, or data is read too slowly.",
    )
    yield alarm(
        "training-job-pending",
        f"A job has waited for its instances for {limits.pending_minutes} minutes.",
        "no capacity for the instance type, a full training plan, or no free address.",
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
    names: ResourceNames,
    environment: Environment,
    *,
    file_system: str | None,
    database: str | None,
) -> Iterator[AlarmSpec]:
    """Yield the alarms of the HyperPod cluster and of what it depends on.

    Args:
        names: Names of the environment.
        environment: Settings; without HyperPod there is no alarm.
        file_system: Id of the Lustre file system, if there is one.
        database: Identifier of the Slurm accounting database, if there is one.
    """
    if not environment.hyperpod.enabled:
        return
    composite = "cluster-in-trouble"
    plans = any(group.training_plan for group in environment.hyperpod.groups)
    for name, what, cause in (
        (
            "cluster-job-failed",
            "A run on the cluster ended with an error.",
            "an error of the run, a node that was lost, or a file system that is full.",
        ),
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
            "The cluster reported an error: its creation or update, or one of its nodes.",
            "no capacity, a quota, or a group without the EFA rules.",
        ),
        (
            "training-plan-ending",
            "A training plan of the cluster ends within a day.",
            "the plan was bought for a limited time; its instances are terminated at the end.",
        ),
    ):
        if name == "training-plan-ending" and not plans:
            continue
        yield AlarmSpec(name, composite, what, cause, platform_metric(names.metrics, name), 1)
    if file_system:
        yield from _file_system_alarms(environment, file_system)
    if database and environment.hyperpod.accounting:
        yield AlarmSpec(
            "accounting-database",
            composite,
            "The Slurm accounting database reports less than 10 % free storage, or nothing at all.",
            "job records that are never purged, or an instance that is stopped or fails over.",
            _aws_metric(
                "AWS/RDS", "FreeStorageSpace", "Average", {"DBInstanceIdentifier": database}
            ),
            threshold=environment.hyperpod.accounting.storage_gib * GIB * 0.1,
            periods=3,
            below=True,
            missing="breaching",
        )


def _file_system_alarms(environment: Environment, file_system: str) -> Iterator[AlarmSpec]:
    composite = "cluster-in-trouble"
    yield AlarmSpec(
        "fsx-capacity-low",
        composite,
        "Less than 15 % of the Lustre file system is free.",
        "checkpoints that were not removed, or data imported but not released.",
        _aws_metric(
            "AWS/FSx", "FreeDataStorageCapacity", "Sum", {"FileSystemId": file_system}, minutes=1
        ),
        threshold=environment.storage.lustre.capacity_gib * GIB * 0.15,
        periods=15,
        below=True,
    )
    yield AlarmSpec(
        "fsx-export-failing",
        composite,
        "A change on the Lustre file system has waited for its export to S3 for an hour.",
        "the bucket or its key refuses the export, or more is written than can be exported.",
        # docs.aws.amazon.com/fsx/latest/LustreGuide/fs-metrics.html: in seconds, 0 if none waits.
        _aws_metric(
            "AWS/FSx",
            "AgeOfOldestQueuedMessage",
            "Maximum",
            {"FileSystemId": file_system, "Publisher": "AutoExport"},
        ),
        threshold=EXPORT_DELAY_SECONDS,
        periods=3,
    )


def _aws_metric(
    namespace: str, name: str, statistic: str, dimensions: Mapping[str, str], *, minutes: int = 5
) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=namespace,
        metric_name=name,
        dimensions_map=dimensions,
        statistic=statistic,
        period=cdk.Duration.minutes(minutes),
    )


def serving_alarms(names: ResourceNames, environment: Environment) -> Iterator[AlarmSpec]:
    """Yield the alarms of SageMaker endpoints and of the models of Bedrock."""
    limits, composite = environment.monitoring, "serving-in-trouble"

    def alarm(name: str, what: str, cause: str) -> AlarmSpec:
        return AlarmSpec(name, composite, what, cause, platform_metric(names.metrics, name), 1)

    yield alarm(
        "endpoint-errors",
        "A SageMaker endpoint failed, or answered at least 5 calls with a server error within "
        "5 minutes.",
        "the model server crashed, ran out of memory, or a deployment went wrong.",
    )
    yield alarm(
        "endpoint-latency",
        f"An endpoint's model took over {limits.endpoint_latency_ms} ms for 15 minutes.",
        "too few instances, prompts longer than planned, or a cold model.",
    )
    yield from _deployment_alarms(names, environment)
    if not (environment.bedrock.enabled or environment.bedrock.judges):
        return
    yield alarm(
        "bedrock-throttled",
        "Bedrock refused calls because of their rate, in three periods of 5 minutes in a row.",
        "more traffic than the quota or the provisioned units carry.",
    )
    yield alarm(
        "bedrock-errors",
        "Bedrock answered at least 5 calls with a server error within 5 minutes.",
        "a fault of the service, or a custom model that does not start.",
    )
    yield alarm(
        "bedrock-latency",
        f"Bedrock calls took over {limits.bedrock_latency_ms} ms on average for 15 minutes.",
        "long answers, or a model under load.",
    )
    if not environment.bedrock.enabled:
        return
    yield AlarmSpec(
        "bedrock-idle-throughput",
        composite,
        "Provisioned throughput is not called, and was not removed.",
        "it is committed, or its removal failed.",
        # The schedule publishes once an hour.
        platform_metric(names.metrics, "bedrock-idle-throughput", minutes=60),
        threshold=1,
        periods=2,
    )


def _deployment_alarms(names: ResourceNames, environment: Environment) -> Iterator[AlarmSpec]:
    """Yield the alarms for endpoints that are billed and should not be.

    The schedule publishes both metrics every 15 minutes.
    """
    if not environment.serving.enabled:
        return
    for name, what, cause in (
        (
            "deployment-overdue",
            "A deployment that has ended, or is idle, was not removed.",
            "it is being created or updated, or its removal is refused.",
        ),
        (
            "deployment-without-end",
            "An endpoint has no tag that states its end, so nothing removes it.",
            "it was created by hand, or a tag cannot be read.",
        ),
    ):
        metric = platform_metric(names.metrics, name, minutes=15)
        yield AlarmSpec(name, "serving-in-trouble", what, cause, metric, threshold=1, periods=2)


def platform_alarms(
    names: ResourceNames, environment: Environment, handlers: Sequence[HandlerFunction]
) -> Iterator[AlarmSpec]:
    """Yield the alarms for keys, images and the platform's own Lambda functions.

    Args:
        names: Names of the environment.
        environment: Settings.
        handlers: Functions of the platform.
    """
    composite = "platform-in-trouble"
    for name, what, cause in (
        (
            "key-disabled",
            "A key of this environment was disabled, or its deletion was scheduled.",
            "a clean-up that went too far; data under the key cannot be read.",
        ),
        (
            "image-scan-findings",
            "An image was refused because of what its scan found.",
            "a base image with known vulnerabilities.",
        ),
        (
            "image-build-failed",
            "A build of an image failed.",
            "an error in containers/, a base image that moved, or no way to a registry.",
        ),
        (
            "alarm-path-broken",
            "A subscription to the pages is not confirmed, or the actions of an alarm are off.",
            "an unanswered confirmation mail, or a maintenance that was not ended.",
        ),
    ):
        if name == "image-build-failed" and not environment.images.build:
            continue
        yield AlarmSpec(name, composite, what, cause, platform_metric(names.metrics, name), 1)
    yield from _function_alarms(names, handlers)


def _function_alarms(
    names: ResourceNames, handlers: Sequence[HandlerFunction]
) -> Iterator[AlarmSpec]:
    """Yield the alarms about the functions, which page without a function."""
    composite = "platform-in-trouble"
    yield AlarmSpec(
        HEARTBEAT,
        composite,
        "The job monitor has not finished a run for 20 minutes: nothing watches the jobs.",
        "its schedule is disabled, its permissions changed, or it takes too long.",
        platform_metric(names.metrics, HEARTBEAT),
        threshold=1,
        periods=4,
        below=True,
        missing="breaching",
        direct=True,
    )
    yield AlarmSpec(
        "handler-errors",
        composite,
        "The platform's own functions failed three times within 15 minutes.",
        "missing permissions after a change, or throttling by AWS.",
        # Lambda retries an event twice, after one and after two more minutes: a single error may
        # have been repaired by its retry, and three are an event that was not handled.
        sum_of_metrics(
            [
                h.function.metric_errors(period=cdk.Duration.minutes(15), statistic="Sum")
                for h in handlers
            ],
            "errors of our functions",
            minutes=15,
        ),
        threshold=3,
        direct=True,
    )
    yield AlarmSpec(
        "undelivered-messages",
        composite,
        "An event could not be handled even after its retries, and waits in a queue.",
        "the function behind the queue fails; read handler-errors first.",
        sum_of_metrics(
            [
                h.undelivered.metric_approximate_number_of_messages_visible(
                    period=cdk.Duration.minutes(5), statistic="Maximum"
                )
                for h in handlers
            ],
            "messages waiting",
        ),
        threshold=1,
        direct=True,
    )
