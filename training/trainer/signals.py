"""Handling of stop signals: SIGTERM (spot reclaim), SIGUSR1 (Slurm time limit), Ctrl-C."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from training.errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignal:
    """Signal handler that remembers a stop signal until the training loop can save.

    Outside the loop there is nothing to save, and a signal ends the process immediately. A second
    Ctrl-C always does.

    Attributes:
        received: Name of the signal that was received, or None.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._deferred = False
        self._previous_handlers: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignal:
        # Python allows signal handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as signal() returned it

    def defer(self, deferred: bool) -> None:
        """Set whether a signal waits for the loop to save (True) or ends the process (False).

        Raises:
            Interrupted: A signal was received while it was deferred.
        """
        self._deferred = deferred
        if not deferred and self.received:
            raise Interrupted(f"stopped by {self.received}")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        repeated = self.received is not None and number == signal.SIGINT
        self.received = signal.Signals(number).name
        if not self._deferred or repeated:
            raise Interrupted(f"stopped by {self.received}")
