"""Secrets of the account, read when a container starts: a token for the model hub, keys of judges.

What is handed around is the name of a secret; its value goes into the environment of the process
that needs it, and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from account.errors import AccountError

_PATIENCE_S = 5
"""To connect: where there is no way to the service, nothing answers at all."""


def read_secrets(names: Mapping[str, str]) -> dict[str, str]:
    """Return the values of secrets.

    Args:
        names: Of secrets, by the environment variable that each is for.

    Returns:
        Their values, by variable.

    Raises:
        AccountError: Names all that cannot be read, and why.
    """
    if not names:
        return {}
    client = _client()
    found, faults = {}, []
    for variable, name in names.items():
        try:
            found[variable] = str(client.get_secret_value(SecretId=name)["SecretString"]).strip()
        except Exception as error:  # botocore's own, of which a dozen mean "no"
            faults.append(f"the secret {name}, for {variable}, cannot be read: {_why(error)}")
    if faults:
        raise AccountError("; ".join(faults))
    return found


def _client() -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise AccountError(
            "secrets of the account are asked for, and boto3 is not installed here"
        ) from error
    patience = Config(connect_timeout=_PATIENCE_S, read_timeout=10, retries={"mode": "standard"})
    # SageMaker sets the one name, and boto3 reads the other.
    return boto3.client("secretsmanager", region_name=os.environ.get("AWS_REGION"), config=patience)


def _why(error: Exception) -> str:
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    hints = {
        "AccessDeniedException": "the role of this container may not read it, or not use its key",
        "ResourceNotFoundException": "there is none of this name, or nobody has put a value in it",
        "NoCredentialsError": "this container has no role",
        "ConnectTimeoutError": "nothing answers; the network has no endpoint of Secrets Manager",
        "EndpointConnectionError": "the network has no endpoint of Secrets Manager",
    }
    return hints.get(code or type(error).__name__, " ".join(str(error).split()))
