"""Rate limiting and retry decisions for calls to an HTTP endpoint."""

from __future__ import annotations

import random
import threading
import time

import httpx2

from training.errors import RunError

_RETRYABLE = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""HTTP statuses after which the same call may succeed."""
_FIRST_WAIT_S, _MAX_WAIT_S = 0.5, 60.0


class RateLimiter:
    """Limiter that spaces the starts of calls evenly.

    Args:
        per_minute: Calls that may begin per minute; None for no limit.
    """

    def __init__(self, per_minute: int | None):
        self._interval_s = 60.0 / per_minute if per_minute else 0.0
        self._next_start = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Block until the next call may begin."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next_start)
            self._next_start = start + self._interval_s
        # Sleep outside the lock, so that other threads can reserve the slots after this one.
        if start > now:
            time.sleep(start - now)


class UnreadableError(ValueError):
    """Response that does not follow the endpoint's protocol; a retry may succeed."""


class StopEvent(threading.Event):
    """Event that tells all calls of a batch that one has failed permanently, and why."""

    error: RunError | None = None

    def fail(self, error: RunError) -> RunError:
        """Set the event; return the first error it was set with, which is the cause of the rest."""
        self.error = self.error or error
        self.set()
        return self.error


def is_retryable(error: Exception) -> bool:
    """Return True if the same call may succeed later."""
    response = getattr(error, "response", None)
    return response is None or response.status_code in _RETRYABLE


def refusal_hint(error: Exception) -> str:
    """Return an explanation of the status of a call that would fail again."""
    response: httpx2.Response = error.response  # type: ignore[attr-defined]  # not retryable
    return {
        401: "Its key is missing or wrong",
        403: "Its key may not use this model",
        404: "There is no such address or model",
    }.get(response.status_code, "Its answer says why")


def describe(error: Exception) -> str:
    """Return a one-line description of a failed call."""
    response = getattr(error, "response", None)
    if isinstance(error, UnreadableError):
        return str(error)
    if response is None:
        return f"{type(error).__name__}: {error}"
    return f"HTTP {response.status_code}: {' '.join(response.text[:200].split())}"


def retry_delay_s(error: Exception, attempt: int) -> float:
    """Return the seconds to wait before a retry.

    The endpoint's `Retry-After` takes precedence; otherwise the wait doubles with each attempt.
    """
    response = getattr(error, "response", None)
    retry_after = response.headers.get("retry-after", "") if response is not None else ""
    if retry_after.replace(".", "", 1).isdigit():
        return min(float(retry_after), _MAX_WAIT_S)
    # Jitter keeps concurrent calls from retrying in the same moment.
    return min(_FIRST_WAIT_S * 2**attempt * random.uniform(0.75, 1.25), _MAX_WAIT_S)
