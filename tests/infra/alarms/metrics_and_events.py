"""Metrics and events of which scenarios are made."""

from typing import Any

from tests.infra.alarms.account import NAMESPACE, PREFIX, Metric, MetricKey

JOBS = "/aws/sagemaker/TrainingJobs"


def constant(value: float, since: float = 0, until: float = 1e9) -> Metric:
    """Return a metric with the same value in each minute of a range."""
    return lambda minute: value if since <= minute < until else None


def run_of(
    name: str,
    *,
    since: float = 20,
    until: float = 1e9,
    loss_until: float = 1e9,
    speed: Metric | None = None,
    gpu: float = 760,
    memory: float = 640,
    disk: float = 40,
) -> dict[MetricKey, Metric]:
    """Return the metrics of a training job on one host with eight GPUs.

    Args:
        name: Name of the job.
        since: Minute of the first step.
        until: Minute at which the host ends.
        loss_until: Minute of the last loss.
        speed: Tokens per second.
        gpu: GPU utilization, the sum over eight GPUs.
        memory: GPU memory utilization, the sum over eight GPUs.
        disk: Disk utilization.
    """
    job, host = (("TrainingJobName", name),), (("Host", f"{name}/algo-1"),)
    end = min(until, loss_until)
    return {
        (JOBS, "loss", job): constant(1.5, since, end),
        (JOBS, "tokens_per_second", job): speed or constant(1000, since, end),
        (JOBS, "GPUUtilization", host): constant(gpu, since, until),
        (JOBS, "GPUMemoryUtilization", host): constant(memory, since, until),
        (JOBS, "DiskUtilization", host): constant(disk, since, until),
    }


def cluster_run(name: str, **metrics: Metric) -> dict[MetricKey, Metric]:
    """Return the metrics that a run on a HyperPod cluster publishes by itself."""
    return {(NAMESPACE, metric, (("TrainingJobName", name),)): m for metric, m in metrics.items()}


def endpoint(name: str, **metrics: Metric) -> dict[MetricKey, Metric]:
    """Return the metrics of an endpoint with one variant."""
    dimensions = (("EndpointName", name), ("VariantName", "main"))
    return {("AWS/SageMaker", metric, dimensions): m for metric, m in metrics.items()}


def model(**metrics: Metric) -> dict[MetricKey, Metric]:
    """Return the metrics of the model that jobs call."""
    return {("AWS/Bedrock", metric, (("ModelId", "model"),)): m for metric, m in metrics.items()}


def event(kind: str, source: str = "aws.sagemaker", **detail: Any) -> dict[str, Any]:
    """Return an event of EventBridge."""
    return {"detail-type": kind, "source": source, "detail": detail}


def failed(reason: str, environment: str = "everything") -> dict[str, Any]:
    """Return the event of a training job that failed."""
    return event(
        "SageMaker Training Job State Change",
        TrainingJobName="a",
        TrainingJobStatus="Failed",
        FailureReason=reason,
        Tags={"Environment": environment},
    )


def cluster(level: str, text: str, prefix: str = PREFIX) -> dict[str, Any]:
    """Return an event of a HyperPod cluster.

    docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-cluster-events-reference.html
    """
    details = {"ClusterName": f"{prefix}-cluster", "EventLevel": level, "Description": text}
    return event("SageMaker HyperPod Cluster Event", EventDetails=details)


def node(status: str) -> dict[str, Any]:
    """Return the event of a node's health.

    docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
    """
    return event(
        "SageMaker HyperPod Cluster Node Health Event",
        ClusterName=f"{PREFIX}-cluster",
        InstanceId="i-1",
        Tags={},
        HealthSummary={"HealthStatus": status, "HealthStatusReason": "NvidiaErrorTerminate"},
    )


def key_event(arn: str) -> dict[str, Any]:
    """Return the event of a key that is disabled, as CloudTrail records it."""
    return event(
        "AWS API Call via CloudTrail",
        "aws.kms",
        eventName="DisableKey",
        requestParameters={"keyId": arn.rpartition("/")[2]},
        resources=[{"ARN": arn, "type": "AWS::KMS::Key"}],
    )


def fault(name: str) -> dict[str, Any]:
    """Return the event of a fault that one of the platform's functions found."""
    return event("Temper Fault", f"temper.{PREFIX}", fault=name, job="a", reason="found")
