"""Check for SageMaker training jobs that logged a NaN or infinite loss.

CloudWatch takes no NaN as the value of a metric, so the loss is searched in the log. The log group
is one per account: the name of the log stream begins with the name of the job, whose tags tell
whether it concerns the environment.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from .faults import Fault
from .scope import Scope, is_not_found

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
# The progress line of a run, the message of its guard, and the log format of other trainers. A
# question mark before each term means OR.
PATTERN = '?"loss nan" ?"loss inf" ?"is nan (rows" ?"is inf (rows" ?"\'loss\': nan"'
# More than the five minutes between two checks: a line reaches the log with a delay. The same fault
# is published once, by its fingerprint.
LOOK_BACK = timedelta(minutes=10)


def check(logs: Any, sagemaker: Any, *, scope: Scope, now: datetime) -> Iterator[Fault]:
    """Yield one fault per job with such a line.

    Args:
        logs: CloudWatch Logs client.
        sagemaker: SageMaker client.
        scope: Which jobs concern the environment.
        now: Current time.
    """
    since = int((now - LOOK_BACK).timestamp() * 1000)
    try:
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=LOG_GROUP, filterPattern=PATTERN, startTime=since
        )
        lines: dict[str, str] = {}
        for page in pages:
            for line in page["events"]:
                job = line["logStreamName"].partition("/")[0]
                lines.setdefault(job, line["message"].strip()[:200])
    except logs.exceptions.ResourceNotFoundException:
        return  # no job has run in this account yet
    for job, line in lines.items():
        if _concerns(sagemaker, scope, job):
            yield Fault(job, "loss-is-nan", line)


def _concerns(sagemaker: Any, scope: Scope, job: str) -> bool:
    try:
        arn = sagemaker.describe_training_job(TrainingJobName=job)["TrainingJobArn"]
    except sagemaker.exceptions.ClientError as error:
        if is_not_found(error):
            return False
        raise
    return scope.covers_sagemaker(sagemaker, arn)
