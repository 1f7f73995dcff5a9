"""When something is due: every so many steps, epochs, or minutes."""

from __future__ import annotations

import math
import time

from training.config.types import Every


class IntervalTrigger:
    """Says once per optimizer step whether something is due.

    Counting by steps and epochs is a function of the step alone, and so the same before and after
    a resume. Counting by time starts anew with each process.

    Args:
        every: The interval, or None for never.
        steps_per_epoch: Optimizer steps (not necessarily whole) in one pass over the data.
    """

    def __init__(self, every: Every | None, steps_per_epoch: float):
        self.every = every
        self.steps_per_epoch = steps_per_epoch
        self._since = time.monotonic()

    def due(self, step: int) -> bool:
        """Return whether `step`, just finished, is one to act on."""
        if self.every is None or step == 0:
            return False
        if self.every.unit == "seconds":
            return time.monotonic() - self._since >= self.every.value
        period = self.every.value
        if self.every.unit == "epochs":
            period *= self.steps_per_epoch
        return math.floor(step / period + 1e-9) > math.floor((step - 1) / period + 1e-9)

    def done(self) -> None:
        """Start counting the time anew."""
        self._since = time.monotonic()
