"""Equal calls at the same time, which are sent once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Result = TypeVar("Result")


@dataclass(slots=True)
class _Shared(Generic[Result]):
    task: asyncio.Future[Result]
    waiting: int = 0


class SharedCalls(Generic[Result]):
    """Calls in progress, by key: an equal call waits for the one that was sent."""

    def __init__(self) -> None:
        self._calls: dict[str, _Shared[Result]] = {}

    async def run(self, key: str, start: Callable[[], Awaitable[Result]]) -> tuple[Result, bool]:
        """Return the result of a call, and whether another call with its key was in progress.

        The call ends when all that wait for it are cancelled.

        Args:
            key: Key of the call.
            start: Begins the call.
        """
        shared = self._calls.get(key)
        joined = shared is not None
        if shared is None:
            shared = _Shared(asyncio.ensure_future(start()))
            self._calls[key] = shared
            shared.task.add_done_callback(lambda _: self._calls.pop(key, None))
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.task), joined
        finally:
            shared.waiting -= 1
            if not shared.waiting and not shared.task.done():
                self._calls.pop(key, None)
                shared.task.cancel()
