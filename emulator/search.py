"""Search of the emulated service: filters on tags, names and times, sorted, in pages.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Search.html
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Filter.html
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from emulator.botocore_schema import service_model, validation_errors
from emulator.request_validation import RequestRejected

_MAX_PAGE = 100


def search_jobs(request: Mapping[str, Any], jobs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the response of Search for training jobs.

    Args:
        request: Parameters of the request.
        jobs: Descriptions of all jobs, with their tags.

    Raises:
        RequestRejected: The request is invalid, or uses a part that is not emulated.
    """
    if errors := validation_errors("sagemaker", "Search", dict(request)):
        raise RequestRejected("ValidationException", "; ".join(errors))
    expression = request.get("SearchExpression", {})
    if request["Resource"] != "TrainingJob" or expression.get("Operator", "And") != "And":
        raise RequestRejected("ValidationException", "only training jobs, joined by And")
    matching = [job for job in jobs if all(_matches(job, f) for f in expression.get("Filters", ()))]
    if request.get("SortBy", "CreationTime") != "CreationTime":
        raise RequestRejected("ValidationException", "only sorted by CreationTime")
    matching.sort(
        key=lambda job: job["CreationTime"], reverse=request.get("SortOrder") != "Ascending"
    )
    start = int(request.get("NextToken", 0))
    end = start + min(int(request.get("MaxResults", 10)), _MAX_PAGE)
    # A search result has fewer members than the description of a job.
    known = service_model("sagemaker").shape_for("TrainingJob").members
    found = [
        {key: value for key, value in job.items() if key in known} for job in matching[start:end]
    ]
    response: dict[str, Any] = {"Results": [{"TrainingJob": job} for job in found]}
    if end < len(matching):
        response["NextToken"] = str(end)
    return response


def _matches(job: Mapping[str, Any], condition: Mapping[str, str]) -> bool:
    """Return whether a job meets one condition.

    Raises:
        RequestRejected: The property or the operator is not emulated.
    """
    name, operator = condition["Name"], condition.get("Operator", "Equals")
    value = condition.get("Value", "")
    if name.startswith("Tags.") and operator == "Equals":
        tags = {tag["Key"]: tag["Value"] for tag in job.get("Tags", ())}
        return tags.get(name.removeprefix("Tags.")) == value
    if name == "CreationTime" and operator == "GreaterThanOrEqualTo":
        return bool(job["CreationTime"] >= datetime.fromisoformat(value).timestamp())
    raise RequestRejected("ValidationException", f"{name} {operator} is not emulated")
