"""Secrets of the AWS account, resolved into environment variables for training.

`TEMPER_SECRETS` names them, as JSON: `{"HF_TOKEN": "temper-dev/hub-token"}`. Launchers pass only
the names; the values are read here, with the role of the container.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from account.errors import AccountError
from account.secrets import read_secrets
from containers.entrypoint.errors import StartError

NAMES = "TEMPER_SECRETS"


def resolve_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the values of the secrets that the environment names, by variable.

    A variable that is set already is left alone, and its secret is not read.

    Raises:
        StartError: `TEMPER_SECRETS` is malformed, or a secret cannot be read.
    """
    text = environment.get(NAMES, "")
    try:
        names = json.loads(text or "{}")
        needed = {str(k): str(v) for k, v in names.items() if not environment.get(str(k))}
    except (ValueError, AttributeError):
        raise StartError(
            f'{NAMES} names secrets as {{"VARIABLE": "name of the secret"}}, and is {text!r}'
        ) from None
    try:
        return read_secrets(needed)
    except AccountError as error:
        raise StartError(str(error)) from error
