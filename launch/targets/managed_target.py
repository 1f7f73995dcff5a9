"""Base of the targets on which AWS trains with a program of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import Generic, TypeVar

from launch.aws.run_objects import delete_prefixes
from launch.aws.s3 import S3Uri
from launch.aws.session import AwsSession
from launch.errors import LaunchError
from launch.managed.graders.function import LOG_GROUP, ROLE, delete_grader, deploy_grader
from launch.managed.graders.package import Contract, build_package
from launch.managed.jobs import ManagedJob
from launch.managed.requests import DataAddresses, managed_output_uri
from launch.prepared_job import PreparedJob
from launch.remote_runs import RemoteRun
from launch.submission import Submission
from launch.targets.aws_target import AwsTarget
from launch.targets.base import Quote
from launch.targets.managed_job import upload_data
from planning.managed.run import ManagedRun
from training.errors import Problem

JobT = TypeVar("JobT", bound=ManagedJob)


class ManagedTarget(AwsTarget, ABC, Generic[JobT]):
    """Target whose jobs are records for a provider, and start over instead of resuming.

    Args:
        account: Session of the environment's account.
    """

    service: str
    """Name of the provider in messages."""

    def __init__(self, account: AwsSession):
        super().__init__(account)
        self._latest: tuple[PreparedJob, JobT] | None = None

    def managed_job(self, prepared: PreparedJob) -> JobT:
        """Return a job with its records; a target quotes and submits it, and converts it once.

        Raises:
            JobError: The provider cannot run it as it is written; lists every problem.
        """
        if self._latest is None or self._latest[0] is not prepared:
            self._latest = prepared, self._convert(prepared)
        return self._latest[1]

    @abstractmethod
    def _convert(self, prepared: PreparedJob) -> JobT:
        """Return a job with its records."""

    def grader_problems(self, run: ManagedRun) -> Iterator[Problem]:
        """Yield a problem if the account has no role for the function that scores answers."""
        if not run.packed_rewards:
            return
        if self.platform.get(ROLE) is None or self.platform.get(LOG_GROUP) is None:
            yield Problem(
                "--env",
                f"has no {ROLE}, with which the function that scores answers runs",
                self.account.environment.name,
                "Set training.managed_customization in its file, and deploy it",
            )

    def deploy_grader(
        self, submission: Submission, run: ManagedRun, contract: Contract
    ) -> str | None:
        """Create the function that scores answers, and return its ARN.

        Args:
            submission: The run.
            run: The job as the provider runs it.
            contract: Form of the function's answer.

        Returns:
            None if the job names a grader, or needs none.
        """
        if not run.packed_rewards:
            return None
        package = build_package(run.packed_rewards, contract)
        return deploy_grader(self.account, submission, package, self.platform)

    def upload_data(self, job: ManagedJob) -> DataAddresses:
        """Upload the records of a job, unless they were uploaded already."""
        return upload_data(job, self.upload)

    def output(self, submission: Submission) -> S3Uri:
        """Return the S3 prefix of what the provider writes for a run."""
        return S3Uri.parse(managed_output_uri(submission.run, self.platform))

    def remote_storage(self, submission: Submission) -> list[tuple[str, int]]:
        """Return the S3 prefix of the run with its size."""
        prefix = self.output(submission)
        return [(str(prefix), self.store.size_bytes(prefix))]

    def grader_deletions(self, submission: Submission) -> tuple[Callable[[], None], ...]:
        """Return the deletions of what was created to score a run's answers."""
        return (partial(delete_grader, self.account, submission.run, self.platform),)

    def delete(self, submission: Submission) -> list[str]:
        """Delete a run's objects and its grader; return those that stay, and why."""
        remaining = []
        # Without the role, the environment has no graders, and its engineers may delete none.
        for delete in self.grader_deletions(submission) if self.platform.get(ROLE) else ():
            try:
                delete()
            except LaunchError as error:
                remaining.append(str(error))
        return [*remaining, *delete_prefixes(self.store, [self.output(submission)])]

    def job_document(self, run: RemoteRun) -> str:
        """Raise: a provider has the records of a job, and not its file.

        Raises:
            LaunchError: Always.
        """
        raise LaunchError(f"{self.service} keeps no job file; the person who submitted it has it")

    def quote_restart(self, submission: Submission) -> Quote:
        """Raise: a job starts over, for which its file is needed.

        Raises:
            LaunchError: Always.
        """
        raise LaunchError(
            f"{submission.run} was submitted elsewhere, and {self.service} resumes no job. Submit "
            "its job file again"
        )

    def restart(self, submission: Submission) -> Submission:
        """Raise, as `quote_restart` does before it.

        Raises:
            LaunchError: Always.
        """
        raise LaunchError(
            f"{self.service} resumes no job; {submission.run} is submitted by its job file"
        )
