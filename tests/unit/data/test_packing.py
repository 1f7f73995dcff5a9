from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.mixing.packing import best_fit


@given(st.integers(1, 300).flatmap(
    lambda size: st.tuples(st.just(size), st.lists(st.integers(1, size), max_size=200))
))  # fmt: skip
def test_every_document_is_in_exactly_one_row_and_rows_fit(case: tuple[int, list[int]]) -> None:
    capacity, lengths = case
    rows = best_fit(lengths, capacity)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= capacity for row in rows)
    # No two rows could have been one: best fit leaves at most one row half empty.
    fills = sorted(sum(lengths[i] for i in row) for row in rows)
    assert len(fills) < 2 or fills[0] + fills[1] > capacity


def test_it_is_deterministic_and_nearly_full() -> None:
    lengths = [(i * 7919) % 500 + 12 for i in range(20_000)]
    rows = best_fit(lengths, 512)
    assert rows == best_fit(lengths, 512)
    assert sum(lengths) / (len(rows) * 512) > 0.98


@pytest.mark.parametrize("length", [0, 11])
def test_what_cannot_fit_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        best_fit([5, length], 10)
