"""Training jobs of an environment, found by their tags with SageMaker's Search.

One request returns up to 100 complete descriptions with their tags. ListTrainingJobs, which cannot
filter by tag, would need two more requests for each job.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Search.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from launch.aws.session import explain_aws_errors
from launch.aws.training_jobs import read_status
from launch.remote_runs import RemoteRun, RunListing, is_run_name, merge_attempts
from launch.submission import Attempt, TargetName

_PAGE_SIZE = 100
_TAGGED: tuple[TargetName, ...] = ("sagemaker-serverless", "jumpstart", "recipes")
"""Targets other than `sagemaker` that create training jobs, and say so in a tag."""


def list_training_runs(sagemaker: Any, environment: str, days: int | None) -> RunListing:
    """Return the runs of an environment whose jobs SageMaker has.

    Args:
        sagemaker: boto3 client of `sagemaker`.
        environment: Name of the environment, the tag `Environment` of its jobs.
        days: Age of the oldest job in days; None for every job.
    """
    attempts, unreadable = [], []
    for job in _search(sagemaker, environment, days):
        tags = tags_of(job)
        run = f"{tags.get('temper:job', '')}/{tags.get('temper:run', '')}"
        if is_run_name(run):
            attempts.append(_attempt(job, tags, run, environment))
        else:
            unreadable.append(f"{job['TrainingJobName']}: its tags name no run ({run!r})")
    return RunListing(tuple(merge_attempts(attempts)), tuple(unreadable))


def _search(sagemaker: Any, environment: str, days: int | None) -> Iterator[dict[str, Any]]:
    filters = [
        {"Name": "Tags.Project", "Operator": "Equals", "Value": "temper"},
        {"Name": "Tags.Environment", "Operator": "Equals", "Value": environment},
    ]
    if days is not None:
        since = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
        filters.append({"Name": "CreationTime", "Operator": "GreaterThanOrEqualTo", "Value": since})
    with explain_aws_errors(f"searching the training jobs of {environment}"):
        pages = sagemaker.get_paginator("search").paginate(
            Resource="TrainingJob",
            SearchExpression={"Filters": filters, "Operator": "And"},
            SortBy="CreationTime",
            SortOrder="Descending",
            PaginationConfig={"PageSize": _PAGE_SIZE},
        )
        for page in pages:
            for record in page["Results"]:
                yield dict(record["TrainingJob"])


def tags_of(job: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a job by key."""
    return {tag["Key"]: tag["Value"] for tag in job.get("Tags", ())}


def _attempt(
    job: Mapping[str, Any], tags: Mapping[str, str], run: str, environment: str
) -> RemoteRun:
    created = job["CreationTime"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    attempt = Attempt(job["TrainingJobName"], job["TrainingJobArn"], created)
    return RemoteRun(
        run=run,
        target=_target(tags),
        environment=environment,
        creator=tags.get("temper:creator", ""),
        created=created,
        attempts=(attempt,),
        status=read_status(job),
    )


def _target(tags: Mapping[str, str]) -> TargetName:
    """Return the target that submitted a training job; Search says nothing else of it."""
    tagged = tags.get("temper:target")
    for target in _TAGGED:
        if tagged == target:
            return target
    return "sagemaker"
