"""Session with the AWS account, and messages for the errors that AWS returns."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
import botocore.session
from botocore import exceptions as aws
from botocore.config import Config
from botocore.loaders import Loader, create_loader

from launch.environment import LaunchEnvironment
from launch.errors import LaunchError

_EXPIRED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
}
DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "403",
    "AllAccessDisabled",
}
_NOT_FOUND = ("ResourceNotFound", "ResourceNotFoundException")
_VALIDATION = ("ValidationException", "ValidationError")
_CONFIG = Config(
    connect_timeout=10,
    read_timeout=60,
    # Retries are safe for CreateTrainingJob, too: the service rejects a name that it has already.
    retries={"mode": "standard", "total_max_attempts": 5},
    user_agent_extra="temper",
)


@cache
def _loader() -> Loader:
    """Return the reader of the services' descriptions, which keeps what it has read."""
    return create_loader()


def new_session(region: str, **credentials: str) -> boto3.Session:
    """Return a session whose descriptions of services are read once in a process.

    Reading those of SageMaker takes longer than most requests.

    Args:
        region: Region of the session.
        credentials: Credentials, as boto3 takes them; those of the environment if omitted.
    """
    core = botocore.session.get_session()
    core.register_component("data_loader", _loader())
    return boto3.Session(region_name=region, botocore_session=core, **credentials)


class AwsSession:
    """Session with the account of an environment, using the caller's credentials.

    Args:
        environment: Environment that names the Region and the account.
    """

    def __init__(self, environment: LaunchEnvironment):
        self.environment = environment
        self._clients: dict[str, Any] = {}
        self._session: Any = None

    def client(self, service: str) -> Any:
        """Return the boto3 client of a service in the environment's Region."""
        if service not in self._clients:
            with explain_aws_errors(f"connecting to {service}"):
                if self._session is None:
                    self._session = new_session(self.environment.region)
                self._clients[service] = self._session.client(service, config=_CONFIG)
        return self._clients[service]

    def caller(self) -> str:
        """Return the ARN of the caller's identity.

        Raises:
            LaunchError: The credentials are missing or invalid, or belong to another account.
        """
        with explain_aws_errors("checking your AWS identity"):
            identity = self.client("sts").get_caller_identity()
        expected = self.environment.account
        if expected and identity["Account"] != expected:
            raise LaunchError(
                f"these credentials are of account {identity['Account']}, and the environment "
                f"{self.environment.name} is in {expected}. Choose others with AWS_PROFILE"
            )
        return str(identity["Arn"])


def says_not_found(error: aws.ClientError) -> bool:
    """Return whether an error says that a job does not exist.

    SageMaker answers "Requested resource not found." or "Could not find requested job" with the
    code of every other invalid request, so the text decides.
    """
    code = error_code(error)
    text = str(error.response.get("Error", {}).get("Message", "")).lower()
    return code in _NOT_FOUND or (
        code in _VALIDATION and ("not found" in text or "could not find" in text)
    )


@contextmanager
def explain_aws_errors(
    action: str, ignore: Collection[str] | Callable[[aws.ClientError], bool] = ()
) -> Iterator[None]:
    """Convert errors of boto3 in the block into one clear message.

    Args:
        action: Action of the block, for the message ("reading the log of …").
        ignore: Error codes that end the block without an error, such as those of missing objects;
            or a function that returns whether an error does.

    Raises:
        LaunchError: In place of any error of boto3.
    """
    try:
        yield
    except (
        aws.NoCredentialsError,
        aws.PartialCredentialsError,
        aws.CredentialRetrievalError,
    ) as error:
        raise LaunchError(
            f"{action}: no AWS credentials were found ({error}). Sign in with `aws sso login`, "
            "or set AWS_PROFILE"
        ) from None
    except (aws.SSOTokenLoadError, aws.UnauthorizedSSOTokenError, aws.TokenRetrievalError):
        raise LaunchError(f"{action}: your AWS session has ended. Run `aws sso login`") from None
    except aws.ProfileNotFound:
        profile = os.environ.get("AWS_PROFILE", "")
        raise LaunchError(
            f"{action}: AWS_PROFILE={profile} is not in your AWS configuration"
        ) from None
    except aws.ClientError as error:
        ignored = ignore(error) if callable(ignore) else error_code(error) in ignore
        if not ignored:
            raise LaunchError(f"{action}: {_explain(error)}") from error
    except (aws.HTTPClientError, aws.ConnectionError) as error:
        raise LaunchError(
            f"{action}: AWS could not be reached ({error}). Check the network and rerun the same "
            "command, which resumes from here"
        ) from error
    except aws.BotoCoreError as error:
        raise LaunchError(f"{action}: {error}") from error


@contextmanager
def accept_existing(
    find: Callable[[], object | None], taken: Collection[str] = ("ResourceInUse",)
) -> Iterator[None]:
    """End the block without an error if what it creates exists under its name.

    The name is chosen and written to disk before the first call. If the reply to that call was
    lost, the resource exists, and the service rejects a second one.

    Args:
        find: Returns the resource of this name, None if there is none.
        taken: Error codes of a name that is taken.

    Raises:
        ClientError: The request was rejected for another reason.
        HTTPClientError: There was no reply, and nothing was created.
        ConnectionError: There was no reply, and nothing was created.
    """
    try:
        yield
    except aws.ClientError as error:
        if error_code(error) not in taken:
            raise
    except (aws.HTTPClientError, aws.ConnectionError):
        # No reply: only a lookup of the name shows whether it was created.
        if find() is None:
            raise


def error_code(error: aws.ClientError) -> str:
    """Return the error code of a rejected request, such as `AccessDenied`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _explain(error: aws.ClientError) -> str:
    code = error_code(error)
    message = str(error.response.get("Error", {}).get("Message", "")).strip() or str(error)
    if code in _EXPIRED:
        return (
            f"your AWS credentials are expired or unknown ({code}). Sign in again: `aws sso login`"
        )
    if code in DENIED:
        return (
            f"not allowed: {message}. Use the environment's engineer role (its ARN is the "
            "parameter roles/engineer)"
        )
    return f"{message} ({code})"
