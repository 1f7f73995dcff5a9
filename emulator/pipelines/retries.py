"""Retry policies of a step: which errors are repeated, how often, after what delay.

https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_REQUEST_ERRORS = {
    "ThrottlingException": "Step.THROTTLING",
    "InternalFailure": "Step.SERVICE_FAULT",
    "InternalServerException": "Step.SERVICE_FAULT",
    "ServiceUnavailable": "Step.SERVICE_FAULT",
    "ResourceLimitExceeded": "SageMaker.RESOURCE_LIMIT",
}
_JOB_FAILURES = {
    "InternalServerError": "SageMaker.JOB_INTERNAL_ERROR",
    "CapacityError": "SageMaker.CAPACITY_ERROR",
}


def exception_type(failure: str) -> str:
    """Return the exception type of a failure, whose text begins with an error code; or empty."""
    code = failure.partition(":")[0]
    return _REQUEST_ERRORS.get(code) or _JOB_FAILURES.get(code, "")


def retry_delay_s(
    policies: Sequence[Mapping[str, Any]], failure: str, attempt: int, elapsed_s: float
) -> float | None:
    """Return the delay before the next attempt; None if the step has failed.

    Args:
        policies: Policies of the step.
        failure: Text of the failure.
        attempt: Number of the attempt that failed, from 1.
        elapsed_s: Seconds since the first attempt.
    """
    kind = exception_type(failure)
    for policy in policies:
        if kind and kind in policy["ExceptionType"]:
            delay = policy.get("IntervalSeconds", 1) * policy.get("BackoffRate", 2.0) ** (
                attempt - 1
            )
            limit = policy.get("ExpireAfterMin")
            if limit is not None:
                return delay if elapsed_s + delay <= limit * 60 else None
            # The first attempt is none of the retries that MaxAttempts counts.
            return delay if attempt <= policy.get("MaxAttempts", 5) else None
    return None
