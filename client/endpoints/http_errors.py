"""Errors of endpoints from HTTP responses: OpenAI's, SageMaker's and Bedrock's."""

from __future__ import annotations

import email.utils
import json
import re
import time
from typing import Any

import httpx2

from client.errors import (
    AccessRefusedError,
    EndpointError,
    RequestRefusedError,
    ThrottledError,
    UnavailableError,
)

_REFUSED, _ACCESS = frozenset((400, 413, 415, 422)), frozenset((401, 403, 404, 405))
_MAX_EXCERPT = 300
_MAX_RETRY_AFTER_S = 120.0
_NO_CAPACITY = re.compile(r"no capacity to process", re.IGNORECASE)
"""Part of SageMaker's message while a component is scaled to zero, which has the status 400."""
_NO_ENDPOINT = re.compile(r"(?:endpoint|component)\b.*\bnot found", re.IGNORECASE)
_MODEL_ERROR = 424
_NOT_READY = "ModelNotReadyException"
_NOT_READY_WAIT_S = 5.0
"""Bedrock loads an imported model after idle time; a retry within a second is in vain."""


def endpoint_error(name: str, response: httpx2.Response) -> EndpointError:
    """Return the error of a response that is no answer.

    Args:
        name: Name of the endpoint.
        response: The response, read completely.
    """
    body = _json(response)
    code = _code(response, body)
    message = _message(response, body)
    status = response.status_code
    if status == _MODEL_ERROR:
        # The container answered with this status; SageMaker and Bedrock wrap it.
        original = body.get("OriginalStatusCode", body.get("originalStatusCode"))
        status = int(original) if isinstance(original, int) else 500
    return classified(name, status, code, message, retry_after_s(response))


def classified(
    name: str, status: int, code: str, message: str, wait_s: float | None = None
) -> EndpointError:
    """Return an error by what the endpoint says.

    Args:
        name: Name of the endpoint.
        status: HTTP status.
        code: Error code of the service.
        message: Message of the service.
        wait_s: Seconds that it asks to wait.
    """
    text = f"{name} answered HTTP {status}{f' {code}' if code else ''}: {message}"
    if status == 400 and _NO_CAPACITY.search(message):
        hint = "It is scaled to zero or starting, which takes minutes"
        return UnavailableError(f"{text}. {hint}", status, code, wait_s or _NOT_READY_WAIT_S)
    if status in _ACCESS or (status == 400 and _NO_ENDPOINT.search(message)):
        return AccessRefusedError(f"{text}. {_hint(status)}", status, code)
    if status in _REFUSED:
        return RequestRefusedError(text, status, code)
    if status == 429:
        if code == _NOT_READY:
            wait_s = max(wait_s or 0.0, _NOT_READY_WAIT_S)
        return ThrottledError(text, status, code, wait_s)
    return UnavailableError(text, status, code, wait_s)


def _hint(status: int) -> str:
    return {
        401: "The key is missing or wrong",
        403: "These credentials may not use it",
    }.get(status, "There is no such address, endpoint or model")


def retry_after_s(response: httpx2.Response) -> float | None:
    """Return the seconds that a response asks to wait; None if it does not say."""
    value = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return min(float(value), _MAX_RETRY_AFTER_S)
    date = email.utils.parsedate_tz(value) if value else None
    if date is None:
        return None
    return min(max(0.0, email.utils.mktime_tz(date) - time.time()), _MAX_RETRY_AFTER_S)


def _json(response: httpx2.Response) -> dict[str, Any]:
    try:
        body = json.loads(response.content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _code(response: httpx2.Response, body: dict[str, Any]) -> str:
    """Return the code of AWS's JSON protocols, or that of OpenAI's errors."""
    code = response.headers.get("x-amzn-errortype") or body.get("__type") or body.get("code")
    error = body.get("error")
    if not code and isinstance(error, dict):
        code = error.get("code") or error.get("type")
    return str(code or "").partition(":")[0].rpartition("#")[2]


def _message(response: httpx2.Response, body: dict[str, Any]) -> str:
    error = body.get("error")
    text = body.get("OriginalMessage") or body.get("message") or body.get("Message")
    if not text:
        text = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(text or response.text).split())[:_MAX_EXCERPT] or "(no message)"
