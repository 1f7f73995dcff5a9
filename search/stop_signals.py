"""Signals that tell a search to stop, noted instead of ending the process at once."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from training.errors import Interrupted


class StopSignals:
    """Context in which SIGTERM and SIGINT are noted.

    Attributes:
        received: The last signal; None if there was none.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def raise_if_received(self) -> None:
        """Raise an error if a signal came.

        Raises:
            Interrupted: A signal came.
        """
        if self.received is not None:
            raise Interrupted(
                f"stopped by {self.received.name}; the same command resumes its trials"
            )

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
