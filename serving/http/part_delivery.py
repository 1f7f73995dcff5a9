"""Delivery of answers from the engine's threads to the server's event loop."""

from __future__ import annotations

import asyncio
from collections import deque

from serving.engine.requests import AnswerPart

NumberedPart = tuple[int, AnswerPart]
PartQueue = asyncio.Queue[NumberedPart]
PERIOD_S = 0.005
"""Longest time that a token waits for those that follow it."""


class PartDelivery:
    """Delivery of parts, which wakes the event loop at most once per period while parts arrive.

    A wake-up for each part would be a system call and a change of threads for each token, and an
    event of its own for each token of an engine that needs less than a millisecond for one. The
    parts of an idle server, and those that are urgent, are delivered at once.

    Args:
        period_s: The period, in seconds.
    """

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._period_s = period_s
        self._parts: deque[tuple[PartQueue, NumberedPart]] = deque()
        self._is_scheduled = self._is_urgent = False
        self._timer: asyncio.TimerHandle | None = None

    def deliver(
        self,
        loop: asyncio.AbstractEventLoop,
        queue: PartQueue,
        part: NumberedPart,
        *,
        urgent: bool = False,
    ) -> None:
        """Deliver a part, from any thread.

        Args:
            loop: The event loop.
            queue: Queue of the request.
            part: Number of the answer, and the part.
            urgent: Do not wait for the end of the period.
        """
        self._parts.append((queue, part))
        # A part that is appended after the loop has emptied the deque finds the flags cleared.
        if not self._is_scheduled or (urgent and not self._is_urgent):
            self._is_scheduled, self._is_urgent = True, self._is_urgent or urgent
            loop.call_soon_threadsafe(self._deliver_all, loop)

    def _deliver_all(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_scheduled = self._is_urgent = False
        delivered = bool(self._parts)
        while self._parts:
            queue, part = self._parts.popleft()
            queue.put_nowait(part)
        if delivered:
            self._is_scheduled = True
            self._timer = loop.call_later(self._period_s, self._deliver_all, loop)


async def next_parts(queue: PartQueue) -> list[NumberedPart]:
    """Wait for parts, and return all that have arrived; those of an answer are joined."""
    arrived = [await queue.get()]
    while not queue.empty():
        arrived.append(queue.get_nowait())
    joined: dict[int, AnswerPart] = {}
    failed: list[NumberedPart] = []
    for index, part in arrived:
        if part.finish_reason == "error":
            failed.append((index, part))
        else:
            joined[index] = joined[index].followed_by(part) if index in joined else part
    return [*joined.items(), *failed]
