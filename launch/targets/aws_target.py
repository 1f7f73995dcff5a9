"""Base of the targets in the AWS account of one environment."""

from __future__ import annotations

import dataclasses
from functools import cached_property

from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.s3 import S3Store, S3Uri
from launch.aws.session import AwsSession
from launch.errors import LaunchError
from launch.job_inputs import InputArtifact
from launch.status import Status
from launch.submission import Submission, read_submission


class AwsTarget:
    """Target in an AWS account.

    Args:
        account: Session of the environment's account.
    """

    def __init__(self, account: AwsSession):
        self.account = account

    @property
    def job_prefix(self) -> str:
        """Prefix of the environment, whose roles may touch jobs of these names only."""
        return self.account.environment.prefix

    @cached_property
    def platform(self) -> PlatformParameters:
        """Parameters that the platform published."""
        return read_platform_parameters(self.account.environment, self.account.client("ssm"))

    @cached_property
    def store(self) -> S3Store:
        """Object store of the account."""
        return S3Store(self.account.client("s3"))

    def upload(self, artifact: InputArtifact) -> S3Uri:
        """Upload an input of a job into the data bucket, and return its address."""
        days = self.platform.get("storage/upload-days")
        bucket = self.platform["buckets/data"]
        return self.store.upload_artifact(artifact, bucket, int(days) if days else None)

    def require_not_cancelled(self, submission: Submission) -> None:
        """Raise if a run was stopped since it was read.

        An upload can take minutes, in which `make stop` in another terminal may cancel the run.

        Raises:
            LaunchError: It was.
        """
        current = read_submission(submission.folder)
        if current is not None and current.cancelled:
            raise LaunchError(f"{current.run} was stopped before it was submitted: nothing runs")

    def cancel(self, submission: Submission) -> str:
        """Prevent the submission of a run whose job does not exist yet; return a message."""
        dataclasses.replace(submission, cancelled=True).write()
        return f"{submission.latest.name} was not submitted yet, and will not be"

    def status_without_job(self, submission: Submission, service: str) -> Status:
        """Return the status of a run whose latest job does not exist.

        Args:
            submission: The run.
            service: Service that was asked for the job.

        Raises:
            LaunchError: The credentials are of another account or Region than the job.
        """
        if submission.latest.handle:
            self._require_account_of(submission.latest.handle)
            return Status("stopped", f"{service} no longer has this job")
        if submission.cancelled:
            return Status("stopped", "before it was submitted")
        return Status("planned", "not submitted: rerun the same command")

    def _require_account_of(self, job: str) -> None:
        """Raise unless a job's ARN is in the account and the Region that were asked.

        In every other account the job does not exist, which says nothing about it.

        Raises:
            LaunchError: The job is in another account or Region.
        """
        # arn:aws:sagemaker:REGION:ACCOUNT:training-job/NAME, and the caller's alike
        region, account = job.split(":")[3:5]
        asked = (self.account.environment.region, self.account.caller().split(":")[4])
        if (region, account) != asked:
            raise LaunchError(
                f"{job} is in account {account}, {region}, and these credentials ask account "
                f"{asked[1]}, {asked[0]}. Choose others with AWS_PROFILE"
            )
