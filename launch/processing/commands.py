"""Implementation of `temper logs` and `temper stop` for a processing job."""

from __future__ import annotations

from typing import Any

from launch.aws.logs import LogReader, follow_log
from launch.aws.session import AwsSession
from launch.confirm import confirm
from launch.environment import read_environment
from launch.errors import LaunchError
from launch.processing.jobs import RUNNING, ProcessingJobs, describe_end
from training.console import say

_LOG_GROUP = "/aws/sagemaker/ProcessingJobs"


def print_processing_log(name: str, environment: str, *, follow: bool = True) -> None:
    """Print the log of a processing job, then its state.

    Args:
        name: Name of the job.
        environment: A file of `environments/`.
        follow: Keep printing until the job ends.

    Raises:
        LaunchError: There is no such job, or AWS could not be asked.
    """
    account = AwsSession(read_environment(environment))
    jobs = ProcessingJobs(account.client("sagemaker"))
    job = _found(jobs, name, environment)
    reader = LogReader(account.client("logs"), _LOG_GROUP, name)

    def is_over() -> bool:
        return not follow or _found(jobs, name, environment)["ProcessingJobStatus"] not in RUNNING

    for line in follow_log(reader, is_over):
        say(line)
    job = _found(jobs, name, environment)
    end = "" if job["ProcessingJobStatus"] in RUNNING else f": {describe_end(job)}"
    say(f"{name}: {job['ProcessingJobStatus']}{end}")


def stop_processing_job(name: str, environment: str) -> None:
    """Ask, then stop a processing job; finished tasks are kept for the next one.

    Args:
        name: Name of the job.
        environment: A file of `environments/`.

    Raises:
        LaunchError: There is no such job, or AWS refuses.
    """
    account = AwsSession(read_environment(environment))
    jobs = ProcessingJobs(account.client("sagemaker"))
    status = _found(jobs, name, environment)["ProcessingJobStatus"]
    if status != "InProgress":
        say(f"{name} is {status}: nothing to stop")
        return
    confirm(f"Stop {name}?")
    jobs.stop(name)
    say(f"{name} was told to stop. The same temper prepare command resumes it")


def _found(jobs: ProcessingJobs, name: str, environment: str) -> dict[str, Any]:
    """Return the description of a job.

    Raises:
        LaunchError: There is none.
    """
    job = jobs.find(name)
    if job is None:
        raise LaunchError(
            f"{name}: no such processing job in the environment {environment}. "
            f"temper status --env {environment} lists them; a run of training takes no --env"
        )
    return job
