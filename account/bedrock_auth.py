"""Authentication of calls to Amazon Bedrock: an API key, or signatures with AWS credentials.

https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-use.html
"""

from __future__ import annotations

import os
from collections.abc import Generator

import httpx2

from account.sigv4 import SignedRequestAuth

API_KEY_VARIABLE = "AWS_BEARER_TOKEN_BEDROCK"


class BedrockKeyAuth(httpx2.Auth):
    """Authentication with a Bedrock API key in the `Authorization` header.

    Args:
        key: The key.
    """

    def __init__(self, key: str):
        self._key = key

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Yield the request with the key."""
        request.headers["Authorization"] = f"Bearer {self._key}"
        yield request


def bedrock_auth(region: str) -> httpx2.Auth:
    """Return the authentication of calls: the API key in the environment, or signatures.

    Args:
        region: Region of the endpoint.

    Raises:
        AccountError: Neither an API key nor AWS credentials are available.
    """
    key = os.environ.get(API_KEY_VARIABLE)
    return BedrockKeyAuth(key) if key else SignedRequestAuth("bedrock", region)
