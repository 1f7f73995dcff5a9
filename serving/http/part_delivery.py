"""Delivery of answers from the engine's threads to the server's event loop."""

from __future__ import annotations

import asyncio
from collections import deque

from serving.engine.requests import AnswerPart

NumberedPart = tuple[int, AnswerPart]
PartQueue = asyncio.Queue[NumberedPart]


class PartDelivery:
    """Delivery of parts, which wakes the event loop once for all that arrive before it runs.

    A wake-up for each part would be a system call and a change of threads for each token.
    """

    def __init__(self) -> None:
        self._parts: deque[tuple[PartQueue, NumberedPart]] = deque()
        self._is_awake = False

    def deliver(
        self, loop: asyncio.AbstractEventLoop, queue: PartQueue, part: NumberedPart
    ) -> None:
        """Deliver a part, from any thread.

        Args:
            loop: The event loop.
            queue: Queue of the request.
            part: Number of the answer, and the part.
        """
        self._parts.append((queue, part))
        # A part that is appended after the loop has emptied the deque finds the flag cleared.
        if not self._is_awake:
            self._is_awake = True
            loop.call_soon_threadsafe(self._deliver_all)

    def _deliver_all(self) -> None:
        self._is_awake = False
        while self._parts:
            queue, part = self._parts.popleft()
            queue.put_nowait(part)
