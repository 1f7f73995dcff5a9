"""Clients of the account, and what its refusals mean to a person."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore import exceptions as aws
from botocore.config import Config

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
_CONFIG = Config(
    connect_timeout=10,
    read_timeout=60,
    # A repeated CreateTrainingJob is refused by its name, never run twice.
    retries={"mode": "standard", "total_max_attempts": 5},
    user_agent_extra="temper",
)


class AwsSession:
    """The account that an environment lies in, seen with the caller's credentials.

    Args:
        environment: Says where.
    """

    def __init__(self, environment: LaunchEnvironment):
        self.environment = environment
        self._clients: dict[str, Any] = {}
        self._session: Any = None

    def client(self, service: str) -> Any:
        """Return a client of a service in the environment's Region."""
        if service not in self._clients:
            with explained(f"reaching {service}"):
                if self._session is None:
                    self._session = boto3.Session(region_name=self.environment.region)
                self._clients[service] = self._session.client(service, config=_CONFIG)
        return self._clients[service]

    def caller(self) -> str:
        """Return who asks, as an ARN.

        Raises:
            LaunchError: Nobody that the account knows, or somebody of another account.
        """
        with explained("asking the account who you are"):
            found = self.client("sts").get_caller_identity()
        expected = self.environment.account
        if expected and found["Account"] != expected:
            raise LaunchError(
                f"these credentials are of account {found['Account']}, and the environment "
                f"{self.environment.name} is in {expected}. Choose others with AWS_PROFILE"
            )
        return str(found["Arn"])


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn what AWS raises into one clear message.

    Args:
        doing: What was being done, for the message.

    Raises:
        LaunchError: In place of anything that boto raises.
    """
    try:
        yield
    except (
        aws.NoCredentialsError,
        aws.PartialCredentialsError,
        aws.CredentialRetrievalError,
    ) as error:
        raise LaunchError(
            f"{doing}: no AWS credentials were found ({error}). Sign in with `aws sso login`, "
            "or set AWS_PROFILE"
        ) from None
    except (aws.SSOTokenLoadError, aws.UnauthorizedSSOTokenError, aws.TokenRetrievalError):
        raise LaunchError(f"{doing}: your AWS session has ended. Run `aws sso login`") from None
    except aws.ProfileNotFound:
        profile = os.environ.get("AWS_PROFILE", "")
        raise LaunchError(
            f"{doing}: AWS_PROFILE={profile} is not in your AWS configuration"
        ) from None
    except aws.ClientError as error:
        raise LaunchError(f"{doing}: {_meaning(error)}") from error
    except (aws.HTTPClientError, aws.ConnectionError) as error:
        raise LaunchError(
            f"{doing}: AWS could not be reached ({error}). Check the network; the same command "
            "goes on where this one ended"
        ) from error
    except aws.BotoCoreError as error:
        raise LaunchError(f"{doing}: {error}") from error


def code_of(error: aws.ClientError) -> str:
    """Return the short name of what AWS refused."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _meaning(error: aws.ClientError) -> str:
    code = code_of(error)
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
