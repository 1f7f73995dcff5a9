"""Errors of the client.

    ClientError
    ├── InvalidArgumentError          the application's arguments; nothing was sent
    ├── MaskingError              personal data could not be masked; nothing was sent
    ├── GuardrailBlockedError         a guardrail refused the prompt or the answer
    ├── StreamInterruptedError        a stream broke off after parts of it were delivered
    └── EndpointError                 an endpoint did not answer
        ├── RequestRefusedError       it refuses this request (HTTP 400, 413, 422)
        ├── AccessRefusedError        wrong key, missing right, or no such model (401, 403, 404)
        ├── ThrottledError            it has too much to do (429)
        ├── UnavailableError          server errors, lost connections, time-outs
        ├── CircuitOpenError          it failed often lately and is not asked for a while
        └── NoEndpointAnsweredError   none of several endpoints answered

A message quotes at most what was sent, so never a value that was masked.
"""

from __future__ import annotations

from collections.abc import Sequence


class ClientError(Exception):
    """A call that has no answer; the message says why and what to do."""


class InvalidArgumentError(ClientError):
    """Arguments of a call that cannot be sent.

    Args:
        problems: All that is wrong.

    Attributes:
        problems: All that is wrong.
    """

    def __init__(self, problems: Sequence[str]):
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class MaskingError(ClientError):
    """Personal data could not be masked, so nothing was sent."""


class GuardrailBlockedError(ClientError):
    """A guardrail refused the prompt or the answer.

    Args:
        message: Message that names what was refused, and the rule.
        source: `prompt` or `answer`.
    """

    def __init__(self, message: str, source: str):
        super().__init__(message)
        self.source = source


class StreamInterruptedError(ClientError):
    """A stream broke off after parts of it were delivered; it cannot be sent again unnoticed."""


class EndpointError(ClientError):
    """An endpoint did not answer.

    Args:
        message: What happened.
        status: HTTP status; None without a response.
        code: Error code of the service, such as `ThrottlingException`.
        retry_after_s: Seconds after which the endpoint asks to be called again.
    """

    retryable = False
    """True if the same call may succeed later."""
    counts_as_failure = False
    """True if it is a sign that the endpoint itself is out of order."""

    def __init__(
        self,
        message: str,
        status: int | None = None,
        code: str = "",
        retry_after_s: float | None = None,
    ):
        super().__init__(message)
        self.status, self.code, self.retry_after_s = status, code, retry_after_s


class RequestRefusedError(EndpointError):
    """The endpoint refuses this request; so would another endpoint."""


class AccessRefusedError(EndpointError):
    """The key is wrong, a right is missing, or there is no such model."""


class ThrottledError(EndpointError):
    """The endpoint has too much to do."""

    retryable = True


class UnavailableError(EndpointError):
    """The endpoint failed, cannot be reached, or took too long."""

    retryable = True
    counts_as_failure = True


class CircuitOpenError(EndpointError):
    """The endpoint failed often lately and is not asked for a while."""


class NoEndpointAnsweredError(EndpointError):
    """None of several endpoints answered.

    Args:
        errors: Error of each endpoint, by its name.

    Attributes:
        errors: Error of each endpoint, by its name.
    """

    def __init__(self, errors: dict[str, EndpointError]):
        super().__init__("; ".join(f"{name}: {error}" for name, error in errors.items()))
        self.errors = errors
