"""Error of a request, with what a client learns about it."""

from __future__ import annotations


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        message: What is wrong, the value, and the fix.
        status: HTTP status.
        param: Field of the request that is wrong.
        retry_after: Seconds after which the same request may succeed.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        param: str | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        self.message, self.status = message, status
        self.param, self.retry_after = param, retry_after
