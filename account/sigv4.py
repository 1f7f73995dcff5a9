"""Authentication of HTTP requests by AWS Signature Version 4, with the process's credentials.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html, by botocore.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import httpx2

from account.errors import AccountError


class SignedRequestAuth(httpx2.Auth):
    """Authentication of an httpx client that signs each request.

    Args:
        service: Name of the service in signatures, such as `bedrock`.
        region: Region of the endpoint.

    Raises:
        AccountError: This process has no credentials, or botocore is not installed.
    """

    requires_request_body = True

    def __init__(self, service: str, region: str):
        try:
            import botocore.session
        except ImportError as error:
            raise AccountError(
                "botocore, which signs requests, is not installed (pip install boto3)"
            ) from error
        self._service, self._region = service, region
        # Credentials of a role refresh themselves, so they are not read once and for all.
        self._credentials: Any = botocore.session.get_session().get_credentials()
        if self._credentials is None:
            raise AccountError(
                "no AWS credentials were found: no role, no profile (aws configure, aws sso "
                "login), no AWS_ACCESS_KEY_ID"
            )

    def auth_flow(
        self, request: httpx2.Request
    ) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Yield the signed request.

        Raises:
            AccountError: The credentials have expired and cannot be refreshed.
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
            credentials = self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise AccountError(
                f"the AWS credentials of this process cannot be refreshed: {error}"
            ) from error
        SigV4Auth(credentials, self._service, self._region).add_auth(signed)
        request.headers.update(dict(signed.headers))
        yield request
