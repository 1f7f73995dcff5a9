"""Progress of processing jobs that prepare data, from S3 and from SageMaker."""

from __future__ import annotations

import json
from typing import Any

from launch.aws.session import explain_aws_errors
from launch.processing.states import BUILDING, PLAN, PreparationState, describe_progress


def progress_in_s3(s3: Any, bucket: str, data_set: str) -> str:
    """Return how far a processing job is with a data set; empty if it has not begun.

    Args:
        s3: boto3 client of `s3`.
        bucket: Bucket of the data.
        data_set: Name of the data set.
    """
    prefix = f"prepared/{data_set}/{BUILDING}"
    with explain_aws_errors(f"reading the progress below s3://{bucket}/{prefix}"):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        objects = [entry for page in pages for entry in page.get("Contents", ())]
        plans = [entry for entry in objects if entry["Key"].endswith(f"/{PLAN}")]
        if not plans:
            return ""
        newest = max(plans, key=lambda entry: entry["LastModified"])["Key"]
        plan = json.loads(s3.get_object(Bucket=bucket, Key=newest)["Body"].read())
    folder = newest.removesuffix(PLAN)
    marks = (entry["Key"] for entry in objects if entry["Key"].startswith(folder))
    return describe_progress(plan, marks)


def processing_jobs(sagemaker: Any, prefix: str, count: int = 20) -> list[PreparationState]:
    """Return the latest processing jobs of an environment, oldest first.

    Args:
        sagemaker: boto3 client of `sagemaker`.
        prefix: Prefix of the environment.
        count: Largest number of jobs.
    """
    with explain_aws_errors("listing the processing jobs"):
        answer = sagemaker.list_processing_jobs(
            NameContains=f"{prefix}-prepare-",
            SortBy="CreationTime",
            SortOrder="Descending",
            MaxResults=count,
        )
    states = []
    for job in answer["ProcessingJobSummaries"]:
        end = str(job.get("ExitMessage") or job.get("FailureReason") or "").strip()
        detail = end.splitlines()[0] if end else ""
        states.append(
            PreparationState(job["ProcessingJobName"], job["ProcessingJobStatus"], detail)
        )
    return states[::-1]
