"""Calls of one endpoint: time limits, retries within a budget, hedging, circuit breaker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

import httpx2

from client.chat import AnswerDelta, ChatCall, ModelReply
from client.circuit_breaker import CircuitBreaker
from client.endpoints.base import ChatEndpoint
from client.errors import (
    AccessRefusedError,
    CircuitOpenError,
    EndpointError,
    ThrottledError,
    UnavailableError,
)
from client.hedging import Hedger
from client.retries import RetryBudget
from client.settings import ClientSettings

Result = TypeVar("Result")


@dataclass(slots=True)
class CallProgress:
    """Counts of what has happened to a call so far.

    Attributes:
        endpoint: Name of the endpoint that was asked last.
        retries: Calls that were repeated.
        hedges: Calls that were sent a second time.
        fallbacks: Endpoints that did not answer.
    """

    endpoint: str = ""
    retries: int = 0
    hedges: int = 0
    fallbacks: int = 0


class OpenedStream:
    """Streamed answer whose first part has come.

    Args:
        first: The first part.
        rest: The other parts.
        resources: Closes the response.
    """

    def __init__(
        self, first: AnswerDelta, rest: AsyncIterator[AnswerDelta], resources: AsyncExitStack
    ):
        self._first, self._rest, self._resources = first, rest, resources

    async def parts(self) -> AsyncIterator[AnswerDelta]:
        """Yield all parts."""
        yield self._first
        async for part in self._rest:
            yield part

    async def aclose(self) -> None:
        """Close the response."""
        await self._resources.aclose()


class EndpointCaller:
    """Caller of one endpoint.

    Args:
        endpoint: The endpoint.
        settings: Settings of the client.

    Attributes:
        endpoint: The endpoint.
        breaker: Its circuit breaker; None without one.
    """

    def __init__(self, endpoint: ChatEndpoint, settings: ClientSettings):
        self.endpoint = endpoint
        self._settings = settings
        self.breaker = None if settings.breaker is None else CircuitBreaker(settings.breaker)
        self._budget = RetryBudget()
        self._hedger = None if settings.hedge is None else Hedger(settings.hedge)

    async def answer(
        self, http: httpx2.AsyncClient, call: ChatCall, deadline: float, progress: CallProgress
    ) -> ModelReply:
        """Return the reply to a call.

        Args:
            http: HTTP client.
            call: The call.
            deadline: Time at which the call ends, by `time.monotonic`.
            progress: What happened is counted here.

        Raises:
            EndpointError: The endpoint did not answer.
        """

        async def attempt() -> ModelReply:
            return await self._limited(self.endpoint.answer(http, call), deadline)

        async def discard(reply: ModelReply) -> None:
            """Release nothing: the reply is complete."""

        return await self._repeated(attempt, discard, deadline, progress)

    async def open_stream(
        self, http: httpx2.AsyncClient, call: ChatCall, deadline: float, progress: CallProgress
    ) -> OpenedStream:
        """Return a streamed answer whose first part has come.

        Args:
            http: HTTP client.
            call: The call.
            deadline: Time at which the first part must have come, by `time.monotonic`.
            progress: What happened is counted here.

        Raises:
            EndpointError: The endpoint did not answer.
        """

        async def attempt() -> OpenedStream:
            return await self._limited(self._opened(http, call), deadline)

        return await self._repeated(attempt, OpenedStream.aclose, deadline, progress)

    async def _opened(self, http: httpx2.AsyncClient, call: ChatCall) -> OpenedStream:
        resources = AsyncExitStack()
        try:
            parts = await resources.enter_async_context(self.endpoint.open_stream(http, call))
            async for part in parts:
                if part.text or part.tool_calls or part.finish_reason is not None:
                    return OpenedStream(part, parts, resources)
            raise UnavailableError(f"{self.endpoint.name} sent an empty stream")
        except BaseException:
            await resources.aclose()
            raise

    def stream_failed(self) -> None:
        """Record that a stream broke off after its first part."""
        if self.breaker is not None:
            self.breaker.record(succeeded=False)

    async def _limited(self, work: Awaitable[Result], deadline: float) -> Result:
        """Return the result of an attempt within its time limit.

        Raises:
            UnavailableError: It takes longer.
        """
        limit = min(self._settings.attempt_timeout_s, max(0.0, deadline - time.monotonic()))
        try:
            async with asyncio.timeout(limit):
                return await work
        except TimeoutError:
            raise UnavailableError(
                f"{self.endpoint.name} did not answer within {limit:.3g} s"
            ) from None

    async def _repeated(
        self,
        attempt: Callable[[], Awaitable[Result]],
        discard: Callable[[Result], Awaitable[None]],
        deadline: float,
        progress: CallProgress,
    ) -> Result:
        """Return the result of the first attempt that succeeds.

        Raises:
            EndpointError: None did that could be made.
        """
        taken = number = 0
        while True:
            self._require_closed_circuit()
            try:
                result = await self._hedged(attempt, discard, progress)
            except EndpointError as error:
                self._record_error(error)
                wait_s = self._settings.retry.wait_s(error, number)
                cost = self._retry_cost(error, number, deadline - wait_s)
                if cost is None:
                    raise
            except BaseException:
                if self.breaker is not None:
                    self.breaker.release()
                raise
            else:
                if self.breaker is not None:
                    self.breaker.record(succeeded=True)
                self._budget.give_back(taken)
                return result
            taken, number = cost, number + 1
            progress.retries += 1
            await asyncio.sleep(wait_s)

    def _require_closed_circuit(self) -> None:
        """Check that the endpoint may be asked.

        Raises:
            CircuitOpenError: It failed often lately.
        """
        if self.breaker is not None and not self.breaker.allow():
            raise CircuitOpenError(
                f"{self.endpoint.name} failed often lately and is asked again in "
                f"{self.breaker.wait_s:.0f} s"
            )

    def _record_error(self, error: EndpointError) -> None:
        if self.breaker is None:
            return
        if isinstance(error, ThrottledError | AccessRefusedError):
            self.breaker.release()  # neither a sign that it works nor that it does not
        else:
            self.breaker.record(succeeded=not error.counts_as_failure)

    def _retry_cost(self, error: EndpointError, number: int, deadline: float) -> int | None:
        """Return what a retry takes from the budget; None if there is to be none.

        Args:
            error: Error of the attempt.
            number: Number of the attempt.
            deadline: Time at which a retry must begin.
        """
        policy = self._settings.retry
        if not error.retryable or number >= policy.max_retries or time.monotonic() >= deadline:
            return None
        return self._budget.take(error) if policy.budgeted else 0

    async def _hedged(
        self,
        attempt: Callable[[], Awaitable[Result]],
        discard: Callable[[Result], Awaitable[None]],
        progress: CallProgress,
    ) -> Result:
        if self._hedger is None:
            return await attempt()

        def count() -> None:
            progress.hedges += 1

        return await self._hedger.run(attempt, discard, count)
