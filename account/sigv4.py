"""Calls to AWS signed with what this process is known by: a role, a profile, keys in variables.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html, by botocore.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import httpx2

from account.errors import AccountError


class SignedRequestAuth(httpx2.Auth):
    """Signs each request of a client.

    Args:
        service: As signatures name it, such as `bedrock`.
        region: That is called.

    Raises:
        AccountError: This process is known by nothing, or botocore is not installed.
    """

    requires_request_body = True

    def __init__(self, service: str, region: str):
        try:
            import botocore.session
        except ImportError as error:
            raise AccountError(
                "calls are signed by botocore, which is not installed here (pip install boto3)"
            ) from error
        self._service, self._region = service, region
        # Of a role: these renew themselves.
        self._credentials: Any = botocore.session.get_session().get_credentials()
        if self._credentials is None:
            raise AccountError(
                "no AWS credentials are found here: no role, no profile (aws configure, aws sso "
                "login), no AWS_ACCESS_KEY_ID"
            )

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Yield the request with its signature.

        Raises:
            AccountError: What this process is known by has run out, and cannot be renewed.
        """
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        signed = AWSRequest(
            method=request.method,
            url=str(request.url),
            data=request.content,
            headers={"Content-Type": request.headers["Content-Type"]},
        )
        try:
            now = self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise AccountError(f"this process's AWS credentials are gone: {error}") from error
        SigV4Auth(now, self._service, self._region).add_auth(signed)
        request.headers.update(dict(signed.headers))
        yield request
