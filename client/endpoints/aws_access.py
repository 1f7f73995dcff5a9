"""Address of the AWS service that answers."""

from __future__ import annotations

from account.errors import AccountError
from account.service_address import service_address
from client.errors import InvalidArgumentError


def aws_address(service: str, region: str | None) -> tuple[str, str]:
    """Return the address of a service and its Region.

    Args:
        service: Name of the service.
        region: Region; None for that of the environment or the profile.

    Raises:
        InvalidArgumentError: The Region is not known.
    """
    try:
        return service_address(service, region)
    except AccountError as error:
        raise InvalidArgumentError([f"region: {error}"]) from None
