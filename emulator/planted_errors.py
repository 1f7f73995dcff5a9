"""Errors that an emulated service answers with because a test or a rehearsal asks for them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from emulator.request_validation import RequestRejected


@dataclass
class PlantedErrors:
    """Errors and lost replies to come, by operation."""

    _errors: dict[str, list[RequestRejected]] = field(default_factory=dict)
    _lost: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def plant(
        self, operation: str, code: str, message: str = "", *, times: int = 1, **details: Any
    ) -> None:
        """Answer the next calls of an operation with an error, which then do nothing.

        Args:
            operation: Name of the operation, such as `CreateEndpoint`.
            code: Error code, such as `ThrottlingException`.
            message: Error message.
            times: Number of calls.
            details: Further members of the error's shape.
        """
        message = message or {"ThrottlingException": "Rate exceeded"}.get(code, code)
        with self._lock:
            errors = [RequestRejected(code, message, **details) for _ in range(times)]
            self._errors.setdefault(operation, []).extend(errors)

    def lose_replies(self, operation: str, times: int = 1) -> None:
        """Execute the next calls of an operation, and close the connection without a reply."""
        with self._lock:
            self._lost[operation] = self._lost.get(operation, 0) + times

    def raise_next(self, operation: str) -> None:
        """Raise the next planted error of an operation, if there is one.

        Raises:
            RequestRejected: There is one.
        """
        with self._lock:
            if self._errors.get(operation):
                raise self._errors[operation].pop(0)

    def loses_reply(self, operation: str) -> bool:
        """Return whether the reply of this call is lost, and count it."""
        with self._lock:
            lost = self._lost.get(operation, 0) > 0
            if lost:
                self._lost[operation] -= 1
            return lost

    def clear(self) -> None:
        """Forget all that is planted."""
        with self._lock:
            self._errors.clear()
            self._lost.clear()
