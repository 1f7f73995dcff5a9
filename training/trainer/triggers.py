"""Triggers that fire every N steps, epochs or minutes."""

from __future__ import annotations

import math
import time

from training.config.types import NEVER, Every


class IntervalTrigger:
    """Trigger that is checked once per optimizer step.

    Intervals in steps and epochs are a function of the step alone, so they are the same before and
    after a resume. Intervals in time restart with each process.

    Args:
        every: The interval.
        steps_per_epoch: Optimizer steps (possibly fractional) in one pass over the data.
    """

    def __init__(self, every: Every, steps_per_epoch: float):
        self.every = every
        self.steps_per_epoch = steps_per_epoch
        self._since = time.monotonic()

    def due(self, step: int) -> bool:
        """Return whether the trigger fires after `step`."""
        if self.every == NEVER or step == 0:
            return False
        if self.every.unit == "seconds":
            return time.monotonic() - self._since >= self.every.value
        period = self.every.value
        if self.every.unit == "epochs":
            period *= self.steps_per_epoch
        # A multiple of the (fractional) period lies in (step - 1, step]; 1e-9 absorbs rounding.
        return math.floor(step / period + 1e-9) > math.floor((step - 1) / period + 1e-9)

    def reset(self) -> None:
        """Restart the clock of an interval in time."""
        self._since = time.monotonic()
