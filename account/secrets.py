"""Secrets of the account, read when a container starts: the hub token, and API keys of judges.

Jobs, requests and logs contain only the names of secrets. A value goes into the environment of the
process that needs it, and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from account.errors import AccountError

_CONNECT_TIMEOUT_S = 5
"""Short, because a network without a route to the service drops packets silently."""


def read_secrets(names: Mapping[str, str]) -> dict[str, str]:
    """Return the values of secrets.

    Args:
        names: Names of secrets, by the environment variable that each is for.

    Returns:
        The values, by variable.

    Raises:
        AccountError: Some cannot be read; names each with the reason.
    """
    if not names:
        return {}
    client = _client()
    values, faults = {}, []
    for variable, name in names.items():
        try:
            values[variable] = str(client.get_secret_value(SecretId=name)["SecretString"]).strip()
        except Exception as error:  # botocore has a dozen classes for a denied request
            faults.append(f"the secret {name}, for {variable}, cannot be read: {_reason(error)}")
    if faults:
        raise AccountError("; ".join(faults))
    return values


def _client() -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise AccountError(
            "the job uses secrets of the account, and boto3 is not installed (pip install boto3)"
        ) from error
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S, read_timeout=10, retries={"mode": "standard"}
    )
    # SageMaker sets AWS_REGION, and boto3 reads AWS_DEFAULT_REGION.
    return boto3.client("secretsmanager", region_name=os.environ.get("AWS_REGION"), config=config)


def _reason(error: Exception) -> str:
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    hints = {
        "AccessDeniedException": "the role of this container may not read it, or not use its key",
        "ResourceNotFoundException": "it does not exist, or has no value yet",
        "NoCredentialsError": "this container has no role",
        "ConnectTimeoutError": "no answer; the network has no endpoint of Secrets Manager",
        "EndpointConnectionError": "the network has no endpoint of Secrets Manager",
    }
    return hints.get(code or type(error).__name__, " ".join(str(error).split()))
