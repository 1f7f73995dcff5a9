"""Circuit breaker: an endpoint that fails is left alone for a while.

https://martinfowler.com/bliki/CircuitBreaker.html
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class CircuitBreakerPolicy:
    """When an endpoint is left alone, and for how long.

    Attributes:
        failure_share: Share of the last calls that failed at which it is left alone.
        window: Number of the last calls that count.
        min_calls: Calls before the share means anything.
        reset_s: Seconds until one call tries it again.
    """

    failure_share: float = 0.5
    window: int = 20
    min_calls: int = 5
    reset_s: float = 30.0


class CircuitBreaker:
    """Circuit breaker of one endpoint.

    It is closed while calls pass, open while none does, and half open while one call tries
    whether the endpoint is back.

    Args:
        policy: When it opens.
        clock: Returns the time in seconds.
    """

    def __init__(self, policy: CircuitBreakerPolicy, clock: Callable[[], float] = time.monotonic):
        self._policy, self._clock = policy, clock
        self._outcomes: deque[bool] = deque(maxlen=policy.window)
        self._opened_at: float | None = None
        self._probing = False

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """State of the breaker."""
        if self._opened_at is None:
            return "closed"
        return "half-open" if self.wait_s <= 0 else "open"

    @property
    def wait_s(self) -> float:
        """Seconds until an open breaker lets a call try the endpoint."""
        if self._opened_at is None:
            return 0.0
        return max(0.0, self._opened_at + self._policy.reset_s - self._clock())

    def allow(self) -> bool:
        """Return True if a call may begin; it must end with `record` or `release`."""
        if self._opened_at is None:
            return True
        if self.wait_s > 0 or self._probing:
            return False
        self._probing = True
        return True

    def record(self, succeeded: bool) -> None:
        """Record the outcome of a call."""
        self._probing = False
        if self._opened_at is not None:
            self._opened_at = None if succeeded else self._clock()
            self._outcomes.clear()
            return
        self._outcomes.append(succeeded)
        failures = self._outcomes.count(False)
        enough = len(self._outcomes) >= self._policy.min_calls
        if enough and failures / len(self._outcomes) >= self._policy.failure_share:
            self._opened_at = self._clock()

    def release(self) -> None:
        """Forget a call that was cancelled, whose outcome is not known."""
        self._probing = False
