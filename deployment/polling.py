"""Waiting for a state on AWS."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from deployment.errors import DeployModelError

State = TypeVar("State")
_FIRST_S = 1.0


@dataclass(frozen=True)
class Polling:
    """Repeated reading of a state, at first often and then less.

    Attributes:
        longest_s: Longest pause between two readings.
        sleep: Pauses.
        now: Returns the time in seconds.
    """

    longest_s: float = 15.0
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic

    def until(
        self,
        read: Callable[[], State],
        ended: Callable[[State], bool],
        *,
        what: str,
        timeout_s: float,
    ) -> State:
        """Return the first state that ends the waiting.

        Args:
            read: Reads the state.
            ended: Returns whether it ends the waiting.
            what: What is awaited, for the message.
            timeout_s: Longest time to wait.

        Raises:
            DeployModelError: The time has passed. What was begun continues.
        """
        pause, deadline = _FIRST_S, self.now() + timeout_s
        while not ended(state := read()):
            if self.now() > deadline:
                raise DeployModelError(
                    f"{what} takes longer than {timeout_s / 60:.0f} minutes. It continues on AWS: "
                    f"`temper deployments` shows it, and the same command waits for it again"
                )
            self.sleep(pause)
            pause = min(2 * pause, self.longest_s)
        return state


_POLLING: ContextVar[Polling | None] = ContextVar("_POLLING", default=None)


def current_polling() -> Polling:
    """Return how states are awaited: by this machine's clock, unless a rehearsal has its own."""
    return _POLLING.get() or Polling()


@contextmanager
def polling_by(polling: Polling) -> Iterator[None]:
    """Await states in another way while the block runs."""
    token = _POLLING.set(polling)
    try:
        yield
    finally:
        _POLLING.reset(token)
