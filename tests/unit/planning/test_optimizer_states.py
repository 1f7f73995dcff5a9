"""Bytes of optimizer states, counted by hand from the rules of bitsandbytes."""

from __future__ import annotations

import pytest

from planning.memory.optimizers import state_bytes

BLOCK = 256


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        # Below 4,096 elements: two states in fp32.
        (4_000, 2 * 4 * 4_000),
        # A LoRA matrix, 16 × 4,096: two states of 8 bits with a scale per block, not paged.
        (16 * 4096, 2 * (16 * 4096 + 4 * (16 * 4096 // BLOCK))),
        (99_999, 2 * (99_999 + 4 * 391)),
        # From 100,000 elements: paged, not counted on the device.
        (100_000, 0),
        (4096 * 4096, 0),
    ],
)
def test_only_large_states_are_paged(count: int, expected: int) -> None:
    assert state_bytes("paged_adamw_8bit", count, 16) == expected
