"""Commands that are killed while they wait."""

from __future__ import annotations

from collections.abc import Callable

from deployment.polling import Polling


def killed_after(
    pauses: int, advance: Callable[[float], None], now: Callable[[], float]
) -> Polling:
    """Return the waiting of a command that is killed in a pause.

    Args:
        pauses: Number of pauses before that one.
        advance: Lets time pass.
        now: Returns the time in seconds.
    """
    left = pauses

    def pause(seconds: float) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        advance(seconds)

    return Polling(sleep=pause, now=now)
