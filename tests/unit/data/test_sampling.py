from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.mixing import sampling
from training.errors import DataError


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@given(
    sizes=st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=30), min_size=1, max_size=3),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_holding_out_parts_no_document(sizes: list[list[int]], share: float, seed: int) -> None:
    documents = [np.repeat(np.arange(len(s)), s) for s in sizes]
    total = sum(map(len, sizes))
    if total < 2:
        with pytest.raises(DataError, match="at least 2 rows"):
            sampling.split_held_out(documents, share, np.random.default_rng(seed))
        return
    train, held = sampling.split_held_out(documents, share, np.random.default_rng(seed))
    count = 0
    for rows, left, right in zip(documents, train, held, strict=True):
        assert sorted([*left, *right]) == list(range(len(rows)))
        assert not set(rows[left]) & set(rows[right])
        count += len(set(rows[right]))
    assert 1 <= count <= total - 1
    assert abs(count - share * total) <= 1
    again = sampling.split_held_out(documents, share, np.random.default_rng(seed))
    assert all((a == b).all() for a, b in zip(again[1], held, strict=True))


@given(
    limit=st.integers(1, 50),
    sources=st.lists(st.tuples(st.integers(0, 40), st.floats(0.1, 9)), min_size=1, max_size=4),
)
def test_a_limit_is_shared_out_whole(limit: int, sources: list[tuple[int, float]]) -> None:
    available, weights = [a for a, _ in sources], [w for _, w in sources]
    shares = sampling.allocate_rows(limit, available, weights)
    assert sum(shares) == min(limit, sum(available))
    assert all(0 <= share <= most for share, most in zip(shares, available, strict=True))


def test_a_limit_follows_the_weights() -> None:
    assert sampling.allocate_rows(100, [1000, 1000], [1, 3]) == [25, 75]
    assert sampling.allocate_rows(100, [1000, 10], [1, 3]) == [90, 10]


@pytest.mark.parametrize(("weight", "expected"), [(1, 100), (3, 300), (0.25, 25), (1.5, 150)])
def test_a_weight_is_how_often_rows_come_up(weight: float, expected: int) -> None:
    documents = np.arange(100)
    rows = sampling.apply_weight(np.arange(100), documents, weight, rng())
    assert len(rows) == expected
    counts = np.bincount(rows, minlength=100)
    assert counts.min() >= int(weight) and counts.max() <= -(-weight // 1)


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    tokens=st.integers(0, 4000),
)
def test_replay_draws_the_tokens_asked_for(lengths: list[int], tokens: int) -> None:
    sizes = np.array(lengths)
    drawn, rounds = sampling.draw_replay(sizes, tokens, rng())
    assert abs(int(sizes[drawn].sum()) - tokens) <= max(lengths)
    counts = np.bincount(drawn, minlength=len(lengths))
    assert counts.max() - counts.min() <= 1
    assert counts.max() <= rounds
