"""Account that a deployment is made in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deployment.polling import Polling, current_polling
from launch.aws.platform_parameters import PlatformParameters, read_platform_parameters
from launch.aws.session import AwsSession
from launch.aws.tags import tag_value
from launch.environment import LaunchEnvironment, read_environment


@dataclass(frozen=True)
class DeploymentAccount:
    """Environment of the platform, its parameters, and clients of its account.

    Attributes:
        session: Session with the account.
        platform: Parameters that the platform published.
        caller: ARN of the caller's identity.
        polling: How states are awaited.
    """

    session: AwsSession
    platform: PlatformParameters
    caller: str
    polling: Polling = field(default_factory=current_polling)

    @property
    def environment(self) -> LaunchEnvironment:
        """The environment."""
        return self.platform.environment

    @property
    def owner(self) -> str:
        """Name of the caller: of a role's session, that of the session."""
        return self.caller.rpartition("/")[2] or self.caller

    @property
    def tags(self) -> dict[str, str]:
        """Tags of everything in the environment, by which costs are assigned."""
        environment = self.environment
        tags: Mapping[str, str] = {
            **environment.tags,
            "Project": "temper",
            "Environment": environment.name,
            "Owner": environment.owner,
            "CostCentre": environment.cost_centre,
        }
        return {key: tag_value(value) for key, value in tags.items() if value}

    def client(self, service: str) -> Any:
        """Return the boto3 client of a service in the environment's Region."""
        return self.session.client(service)

    def resource_name(self, *parts: str) -> str:
        """Return a name of a resource: the environment's prefix and the parts, with hyphens."""
        return "-".join((self.environment.prefix, *parts))[:63].rstrip("-")


def connect_account(environment: str) -> DeploymentAccount:
    """Return the account of an environment.

    Args:
        environment: Name of a file of `environments/`.

    Raises:
        LaunchError: It is not deployed, or the credentials are of another account.
    """
    session = AwsSession(read_environment(environment))
    caller = session.caller()
    platform = read_platform_parameters(session.environment, session.client("ssm"))
    return DeploymentAccount(session, platform, caller)
