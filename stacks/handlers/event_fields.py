"""Fields in which the events of several services hold the name, the state and the reason."""

from collections.abc import Mapping
from typing import Any

# Objects that hold the fields of HyperPod's events, at several levels, and of CloudTrail's.
NESTED_FIELDS = (
    "EventDetails",
    "EventMetadata",
    "Cluster",
    "InstanceGroup",
    "Instance",
    "HealthSummary",
    "requestParameters",
)
NAME_FIELDS = (
    "ModelVersion",
    "job",
    "image",
    "TrainingJobName",
    "HyperParameterTuningJobName",
    "ProcessingJobName",
    "TransformJobName",
    "EndpointName",
    "ModelPackageArn",
    "PipelineExecutionArn",
    "pipelineExecutionArn",
    "ClusterName",
    "jobName",
    "jobArn",
    "batchJobName",
    "modelArn",
    "repository-name",
    "project-name",
    "FileSystemId",
    "keyId",
)
STATE_FIELDS = (
    "ModelState",
    "fault",
    "TrainingJobStatus",
    "HyperParameterTuningJobStatus",
    "ProcessingJobStatus",
    "TransformJobStatus",
    "EndpointStatus",
    "ModelPackageStatus",
    "ModelApprovalStatus",
    "currentPipelineExecutionStatus",
    "ClusterStatus",
    "HealthStatus",
    "scan-status",
    "build-status",
    "eventName",
    "status",
    "EventLevel",
)
REASON_FIELDS = (
    "reason",
    "FailureReason",
    "FailureMessage",
    "HealthStatusReason",
    "failureMessage",
    "Description",
)


def flattened(detail: Any) -> dict[str, Any]:
    """Return a detail merged with the nested objects of HyperPod and CloudTrail events.

    An outer field takes precedence over an inner one of the same name.
    """
    if not isinstance(detail, dict):
        return {}
    inner: dict[str, Any] = {}
    for name in NESTED_FIELDS:
        inner.update(flattened(detail.get(name)))
    return {**inner, **detail}


def first_of(detail: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    """Return the first value that a detail has for one of the keys, as text, or None."""
    return next((str(detail[key]) for key in keys if detail.get(key)), None)
