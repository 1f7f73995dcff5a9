"""Clocks of the emulated services."""

from __future__ import annotations

import threading

import pytest

from emulator.clock import SystemClock


def test_a_callback_that_fails_is_logged_and_the_later_ones_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, later = SystemClock(speed=1000), threading.Event()

    def fail() -> None:
        raise ValueError("the bucket is gone")

    clock.call_later(0, fail)
    clock.call_later(1, later.set)
    assert later.wait(5), "the clock's thread has ended"
    assert "the bucket is gone" in caplog.text
