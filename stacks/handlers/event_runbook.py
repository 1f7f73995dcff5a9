"""Runbook, and so alarm, that an event belongs to.

An event without a runbook is published to the events topic only.
"""

import re
from collections.abc import Mapping
from typing import Any

from .event_fields import REASON_FIELDS, STATE_FIELDS, first_of, flattened

# Kind and state of an event → runbook.
PAGES = {
    ("SageMaker HyperPod Cluster State Change", "Failed"): "hyperpod-cluster-failed",
    ("SageMaker HyperPod Cluster State Change", "RollingBack"): "hyperpod-cluster-failed",
    ("SageMaker Endpoint State Change", "FAILED"): "endpoint-errors",
    ("CodeBuild Build State Change", "FAILED"): "image-build-failed",
    ("CodeBuild Build State Change", "FAULT"): "image-build-failed",
    ("CodeBuild Build State Change", "TIMED_OUT"): "image-build-failed",
}
JOB_KINDS = (
    "SageMaker Training Job State Change",
    "SageMaker HyperParameter Tuning Job State Change",
    "SageMaker Processing Job State Change",
    "SageMaker Transform Job State Change",
    "Model Customization Job State Change",
)
# Failures whose cause is the platform or AWS, not the job: permissions, keys, the service itself.
# docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html, FailureReason;
# an AlgorithmError is the job's own, and CapacityError is answered by the launcher's fallbacks.
PLATFORM_CAUSE = re.compile(
    r"InternalServerError|InternalError|Access ?Denied|not authorized|KMS|no identity-based policy",
    re.IGNORECASE,
)


def runbook_for(event: Mapping[str, Any]) -> str | None:
    """Return the name of the runbook, which is also the name of the alarm, or None."""
    kind, detail = str(event.get("detail-type")), flattened(event.get("detail", {}))
    if kind == "Temper Fault":
        return str(detail["fault"])
    if kind == "SageMaker HyperPod Cluster Node Health Event":
        return None if detail.get("HealthStatus") == "Healthy" else "hyperpod-node-unhealthy"
    if kind == "SageMaker HyperPod Cluster Event":
        return _cluster_runbook(detail)
    if kind == "AWS API Call via CloudTrail":
        return "key-disabled"
    state = first_of(detail, STATE_FIELDS)
    if kind in JOB_KINDS:
        reason = first_of(detail, REASON_FIELDS) or ""
        own = state == "Failed" and not reason.startswith("AlgorithmError")
        return "training-job-failed" if own and PLATFORM_CAUSE.search(reason) else None
    return PAGES.get((kind, str(state)))


def _cluster_runbook(detail: Mapping[str, Any]) -> str | None:
    """Return the runbook of a cluster event.

    With continuous provisioning, a lack of capacity or of a network interface is an event of level
    Error. Its descriptions tell an instance replacement, or instances queued for node replacement,
    from the replacement of a root volume, which is routine maintenance.
    docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-hyperpod-cluster-events-reference.html
    """
    text = str(detail.get("Description") or "").lower()
    # One documented example has no level; then the description decides.
    level = detail.get("EventLevel") or ("Error" if re.search(r"\bfailed\b", text) else "Info")
    if level == "Error":
        return "hyperpod-cluster-failed"
    replaced = "instance replacement" in text or "node replacement" in text
    return "hyperpod-node-replaced" if replaced else None
