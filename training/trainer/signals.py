"""Being told to stop: SIGTERM from a spot reclaim, SIGUSR1 from Slurm, Ctrl-C from a person."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from training.errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignal:
    """Remembers that the run was told to stop, until the loop can save.

    Outside the loop there is nothing to save, and the signal ends the process at once. A second
    Ctrl-C always does.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._patient = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as signal() returned it

    def defer(self, patient: bool) -> None:
        """Set whether a signal waits for the loop to save, or ends the process."""
        self._patient = patient
        if not patient and self.received:
            raise Interrupted(f"stopped by {self.received}")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None and number == signal.SIGINT
        self.received = signal.Signals(number).name
        if not self._patient or again:
            raise Interrupted(f"stopped by {self.received}")
