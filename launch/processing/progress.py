"""Progress of processing jobs that prepare data, from S3 and from SageMaker."""

from __future__ import annotations

import json
import time
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


def processing_jobs(
    sagemaker: Any, prefix: str, days: float | None = None
) -> list[PreparationState]:
    """Return the processing jobs of an environment, oldest first.

    Args:
        sagemaker: boto3 client of `sagemaker`.
        prefix: Prefix of the environment.
        days: Age of the oldest; None for jobs of any age.
    """
    after = {} if days is None else {"CreationTimeAfter": time.time() - days * 86400}
    with explain_aws_errors("listing the processing jobs"):
        pages = sagemaker.get_paginator("list_processing_jobs").paginate(
            NameContains=f"{prefix}-prepare-", SortBy="CreationTime", SortOrder="Ascending", **after
        )
        jobs = [job for page in pages for job in page["ProcessingJobSummaries"]]
    states = []
    for job in jobs:
        end = str(job.get("ExitMessage") or job.get("FailureReason") or "").strip()
        detail = end.splitlines()[0] if end else ""
        states.append(
            PreparationState(job["ProcessingJobName"], job["ProcessingJobStatus"], detail)
        )
    return states
