"""Hedged requests: a call that takes unusually long is sent a second time.

Dean and Barroso, The Tail at Scale, 2013, https://doi.org/10.1145/2408776.2408794.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")
_MAX_SAVED_HEDGES = 10.0


@dataclass(frozen=True, slots=True)
class HedgePolicy:
    """When a call is sent a second time.

    Attributes:
        after_s: Seconds without an answer after which it is; None takes `quantile`.
        quantile: Share of the last answers that came faster than the wait.
        max_share: Share of the calls that may be sent twice, since each costs its tokens again.
        window: Number of the last answers from which the quantile is taken.
        min_answers: Answers before the quantile means anything; until then nothing is sent twice.
    """

    after_s: float | None = None
    quantile: float = 0.95
    max_share: float = 0.1
    window: int = 200
    min_answers: int = 20


class Hedger:
    """Sender of hedged calls to one endpoint.

    Args:
        policy: When a call is sent a second time.
    """

    def __init__(self, policy: HedgePolicy):
        self._policy = policy
        self._latencies: deque[float] = deque(maxlen=policy.window)
        self._allowance = 1.0

    @property
    def wait_s(self) -> float | None:
        """Seconds after which a call is sent again; None while too little is known."""
        if self._policy.after_s is not None:
            return self._policy.after_s
        if len(self._latencies) < self._policy.min_answers:
            return None
        ordered = sorted(self._latencies)
        return ordered[min(len(ordered) - 1, int(self._policy.quantile * len(ordered)))]

    async def run(
        self,
        start: Callable[[], Awaitable[Result]],
        discard: Callable[[Result], Awaitable[None]],
        on_hedge: Callable[[], None],
    ) -> Result:
        """Return the first result of a call that may be sent twice.

        An error before the second call is raised at once; after it, the other call decides.

        Args:
            start: Begins the call.
            discard: Releases a result that came second.
            on_hedge: Called when the call is sent a second time.
        """
        began = time.monotonic()
        self._allowance = min(_MAX_SAVED_HEDGES, self._allowance + self._policy.max_share)
        calls: list[asyncio.Future[Result]] = [asyncio.ensure_future(start())]
        try:
            await asyncio.wait(calls, timeout=self.wait_s)
            if not calls[0].done() and self._allowance >= 1:
                self._allowance -= 1
                on_hedge()
                calls.append(asyncio.ensure_future(start()))
            result = await _first_result(calls)
        finally:
            await _end(calls, discard)
        if result.exception() is None:
            self._latencies.append(time.monotonic() - began)
        return result.result()


async def _first_result(calls: list[asyncio.Future[Result]]) -> asyncio.Future[Result]:
    """Return the first call that succeeds; if none does, the one that failed first.

    The call is taken out of the list.
    """
    pending = set(calls)
    failed: list[asyncio.Future[Result]] = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for call in (one for one in calls if one in done):
            if call.exception() is None:
                calls.remove(call)
                return call
            failed.append(call)
    calls.remove(failed[0])
    return failed[0]


async def _end(
    calls: list[asyncio.Future[Result]], discard: Callable[[Result], Awaitable[None]]
) -> None:
    for call in calls:
        call.cancel()
    for ended in await asyncio.gather(*calls, return_exceptions=True):
        if not isinstance(ended, BaseException):
            await discard(ended)
