"""When something is due depends on the step alone, and so is the same after a resume."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from training.config.types import NEVER, Every
from training.trainer.triggers import IntervalTrigger


@given(st.integers(1, 30), st.integers(1, 200))
def test_every_so_many_steps(period: int, steps: int) -> None:
    cadence = IntervalTrigger(Every(period, "steps"), 7.0)
    due = [step for step in range(steps + 1) if cadence.due(step)]
    assert due == list(range(period, steps + 1, period))


@given(st.floats(0.5, 40), st.sampled_from([0.25, 0.5, 1.0, 2.0]))
def test_once_in_every_epoch(steps_per_epoch: float, every: float) -> None:
    """At the first step that ends in or after it; never more often than steps come."""
    cadence = IntervalTrigger(Every(every, "epochs"), steps_per_epoch)
    due = [step for step in range(200) if cadence.due(step)]
    period = every * steps_per_epoch
    passed = {int((step + 1e-9) / period) for step in range(1, 200)} - {0}
    assert len(due) == len(passed)


def test_minutes_count_from_the_last_time() -> None:
    cadence = IntervalTrigger(Every(0.05, "seconds"), 7.0)
    assert not cadence.due(1)
    time.sleep(0.06)
    assert cadence.due(2)
    cadence.reset()
    assert not cadence.due(3)


def test_never() -> None:
    assert not any(IntervalTrigger(NEVER, 7.0).due(step) for step in range(100))
