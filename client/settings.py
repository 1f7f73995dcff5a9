"""Settings of a client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from client.circuit_breaker import CircuitBreakerPolicy
from client.errors import InvalidArgumentError
from client.guardrails import GuardrailHook
from client.hedging import HedgePolicy
from client.masking import PersonalDataMask
from client.metrics import RecordCall
from client.response_cache import ResponseCache
from client.retries import RetryPolicy


@dataclass(frozen=True)
class ClientSettings:
    """Settings of a client.

    Attributes:
        retry: How often and when a call is repeated.
        breaker: When an endpoint that fails is left alone; None never does.
        hedge: When a call is sent a second time; None never does.
        cache: Cache of answers; None keeps none.
        mask: Masking of personal data; None sends messages as they are.
        guardrails: Guardrails that examine prompts and answers, in this order.
        metrics: Receives the record of each call, such as `EmfMetrics()`.
        timeout_s: Limit until the answer, or the first part of a stream, with all retries and
            fallbacks.
        attempt_timeout_s: Limit of one attempt, and between two parts of a stream.
        max_concurrency: Calls in progress at the same time; others wait.
    """

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    breaker: CircuitBreakerPolicy | None = field(default_factory=CircuitBreakerPolicy)
    hedge: HedgePolicy | None = None
    cache: ResponseCache | None = None
    mask: PersonalDataMask | None = None
    guardrails: Sequence[GuardrailHook] = ()
    metrics: RecordCall | None = None
    timeout_s: float = 120.0
    attempt_timeout_s: float = 60.0
    max_concurrency: int = 64

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InvalidArgumentError: A limit is not above 0.
        """
        limits = {
            "timeout_s": self.timeout_s,
            "attempt_timeout_s": self.attempt_timeout_s,
            "max_concurrency": self.max_concurrency,
        }
        problems = [
            f"{name} is above 0 (got {value})" for name, value in limits.items() if value <= 0
        ]
        if problems:
            raise InvalidArgumentError(problems)
