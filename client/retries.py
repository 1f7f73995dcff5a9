"""Retries: exponential backoff with full jitter, within a budget."""

from __future__ import annotations

import random
from dataclasses import dataclass

from client.errors import EndpointError

_CAPACITY, _RETRY_COST, _TIMEOUT_COST, _REFUND = 500, 5, 10, 1


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Number of retries, and the waits before them.

    The wait before a retry is uniform between 0 and `base_s * 2^attempt` (full jitter), at most
    `max_wait_s`, so that many clients do not come back at the same moment:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/. A wait that the
    endpoint asks for is a lower bound.

    Attributes:
        max_retries: Retries of a call at one endpoint.
        base_s: Longest wait before the first retry.
        max_wait_s: Longest wait before a retry.
        budgeted: Whether retries stop when most calls fail (`RetryBudget`).
    """

    max_retries: int = 3
    base_s: float = 0.5
    max_wait_s: float = 20.0
    budgeted: bool = True

    def wait_s(self, error: EndpointError, attempt: int) -> float:
        """Return the seconds to wait before a retry.

        Args:
            error: Error of the call.
            attempt: Number of the call that failed, from 0.
        """
        wait = random.uniform(0, min(self.base_s * 2**attempt, self.max_wait_s))
        return max(wait, error.retry_after_s or 0.0)


class RetryBudget:
    """Budget of the retries at one endpoint, which calls that succeed fill again.

    When most calls fail, the budget runs out and retries stop, instead of multiplying the load of
    an endpoint that is in trouble. Numbers as in the standard mode of AWS's SDKs:
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html.
    """

    def __init__(self) -> None:
        self._tokens = _CAPACITY

    def take(self, error: EndpointError) -> int | None:
        """Take the cost of a retry; return it, or None if the budget does not cover it.

        Args:
            error: Error of the call that would be repeated.
        """
        cost = _RETRY_COST if error.status is not None else _TIMEOUT_COST
        if self._tokens < cost:
            return None
        self._tokens -= cost
        return cost

    def give_back(self, taken: int) -> None:
        """Refund a call that succeeded.

        Args:
            taken: Cost of its last retry; 0 if it had none.
        """
        self._tokens = min(_CAPACITY, self._tokens + (taken or _REFUND))
