"""Jobs that SageMaker knows by a name of ours: created at most once, and described."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from botocore import exceptions as aws

from launch.aws.session import accept_existing, error_code, explain_aws_errors, says_not_found
from launch.errors import LaunchError

Create = Callable[[], Mapping[str, Any]]
Describe = Callable[[], Mapping[str, Any]]


def create_job(
    what: str,
    create: Create,
    describe: Describe,
    explain_quota: Callable[[aws.ClientError], str] | None = None,
) -> dict[str, Any] | None:
    """Create a job, and return the service's answer; None if its name is taken.

    The name is determined by what the job does, so that a repeated call finds the job of the first.

    Args:
        what: The job with its name, for messages: `the training job a-1`.
        create: Call that creates it.
        describe: Call that describes it.
        explain_quota: Returns the message for a quota that does not allow the job; the service's
            own message is used if None.

    Raises:
        LaunchError: The job cannot be created.
    """  # noqa: DOC501 (errors of boto3 become a LaunchError)
    with (
        explain_aws_errors(f"creating {what}"),
        accept_existing(lambda: find_job(what, describe)),
    ):
        try:
            return dict(create())
        except aws.ClientError as error:
            if explain_quota is not None and error_code(error) == "ResourceLimitExceeded":
                raise LaunchError(explain_quota(error)) from None
            raise
    return None


def find_job(what: str, describe: Describe) -> dict[str, Any] | None:
    """Return the description of a job; None if the service says that no job has its name.

    Args:
        what: The job with its name, for messages.
        describe: Call that describes it.

    Raises:
        LaunchError: The service could not be asked, which says nothing about the job.
    """
    with explain_aws_errors(f"describing {what}", ignore=says_not_found):
        return dict(describe())
    return None
