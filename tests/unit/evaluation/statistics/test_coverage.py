"""Intervals cover the truth in 93 to 97 % of simulations; equal models differ in at most 5 %."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.metric import Floats, TaskMetric, mean_metric, ratio
from evaluation.statistics.bootstrap import bootstrap_interval
from evaluation.statistics.paired import compare
from evaluation.statistics.paired_proportions import (
    items_needed_for_proportions,
    mcnemar_p,
    tango_interval,
)
from evaluation.statistics.randomization import randomization_p
from evaluation.statistics.summary import summarise

_SIMULATIONS = 2000
_RESAMPLES = 1000


def _is_nominal(covered: int) -> bool:
    return 0.93 <= covered / _SIMULATIONS <= 0.97


@pytest.mark.parametrize(("items", "p"), [(20, 0.5), (50, 0.3), (100, 0.9), (1000, 0.75)])
def test_intervals_of_proportions_cover(items: int, p: float) -> None:
    generator = np.random.default_rng(items)
    covered = 0
    for right in generator.binomial(items, p, size=_SIMULATIONS):
        result = summarise(mean_metric("accuracy", np.repeat([1.0, 0.0], [right, items - right])))
        assert result is not None
        covered += result.low <= p <= result.high
    assert _is_nominal(covered)


@pytest.mark.parametrize(
    ("items", "both", "only_first", "only_second"),
    [(30, 0.4, 0.2, 0.1), (100, 0.6, 0.1, 0.1), (200, 0.3, 0.05, 0.15), (1000, 0.5, 0.04, 0.02)],
)
def test_intervals_of_paired_proportions_cover(
    items: int, both: float, only_first: float, only_second: float
) -> None:
    generator = np.random.default_rng(items)
    shares = [both, only_first, only_second, 1 - both - only_first - only_second]
    covered = 0
    for _, wins, losses, _ in generator.multinomial(items, shares, size=_SIMULATIONS):
        low, high = tango_interval(int(wins), int(losses), items)
        covered += low <= only_first - only_second <= high
    assert _is_nominal(covered)


def _f1(generator: np.random.Generator, items: int) -> Floats:
    """Return values like those of token F1: many 0, some 1, the rest between."""
    kind = generator.random(items)
    between = generator.beta(2, 2, size=items)
    values: Floats = np.where(kind < 0.3, 0.0, np.where(kind < 0.5, 1.0, between))
    return values


@pytest.mark.slow
@pytest.mark.parametrize("items", [20, 50, 200])
def test_bootstrap_intervals_of_means_cover(items: int) -> None:
    generator = np.random.default_rng(items)
    covered = 0
    for simulation in range(_SIMULATIONS):
        metric = mean_metric("token_f1", _f1(generator, items))
        low, high, _ = bootstrap_interval(
            metric.statistics, metric.value_of, seed=simulation, resamples=_RESAMPLES
        )
        covered += low <= 0.45 <= high
    assert _is_nominal(covered)


@pytest.mark.slow
@pytest.mark.parametrize("items", [20, 50, 200])
def test_bootstrap_intervals_of_corpus_metrics_cover(items: int) -> None:
    generator = np.random.default_rng(items)
    covered = 0
    for simulation in range(_SIMULATIONS):
        length = generator.integers(20, 400, size=items).astype(float)
        nats = length * generator.normal(0.9, 0.3, size=items)
        low, high, _ = bootstrap_interval(
            np.column_stack([nats, length]), ratio, seed=simulation, resamples=_RESAMPLES
        )
        covered += low <= 0.9 <= high
    assert _is_nominal(covered)


@pytest.mark.slow
@pytest.mark.parametrize("items", [20, 100])
def test_bootstrap_intervals_of_differences_cover(items: int) -> None:
    """Two models whose losses per item are correlated, and of which one is better by 0.05."""
    generator = np.random.default_rng(items)
    covered = 0
    for simulation in range(_SIMULATIONS):
        hard = generator.gamma(2, 0.5, size=items)
        losses = hard + generator.normal(0, 0.2, size=(2, items)) - [[0.05], [0.0]]
        statistics = np.column_stack([losses[0], losses[1], np.ones(items)])
        low, high, _ = bootstrap_interval(
            statistics,
            lambda sums: (sums[..., 0] - sums[..., 1]) / sums[..., 2],
            seed=simulation,
            resamples=_RESAMPLES,
        )
        covered += low <= -0.05 <= high
    assert _is_nominal(covered)


@pytest.mark.parametrize(("items", "unequal"), [(50, 0.2), (200, 0.3), (1000, 0.1)])
def test_equal_models_are_rarely_called_different(items: int, unequal: float) -> None:
    generator = np.random.default_rng(items)
    shares = [unequal / 2, unequal / 2, 1 - unequal]
    called = sum(
        mcnemar_p(int(wins), int(losses)) <= 0.05
        for wins, losses, _ in generator.multinomial(items, shares, size=_SIMULATIONS)
    )
    assert called / _SIMULATIONS <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("items", [10, 50])
def test_equal_models_are_rarely_called_different_by_other_metrics(items: int) -> None:
    generator = np.random.default_rng(items)
    called = 0
    for simulation in range(_SIMULATIONS):
        first, second = (np.column_stack([_f1(generator, items), np.ones(items)]) for _ in range(2))
        p = randomization_p(first, second, ratio, seed=simulation, exchanges=999)
        called += p <= 0.05
    # The level is at most 5 %, and below it for few items, of which exchanges are few. The standard
    # error of 2,000 simulations is 0.5 %, of which three are allowed above the level.
    assert 0.02 <= called / _SIMULATIONS <= 0.065


def test_the_items_needed_give_the_power_that_they_promise() -> None:
    better, worse = 0.12, 0.06
    needed = items_needed_for_proportions(int(better * 1000), int(worse * 1000), 1000)
    assert needed is not None
    generator = np.random.default_rng(0)
    draws = generator.multinomial(needed, [better, worse, 1 - better - worse], size=_SIMULATIONS)
    power = sum(mcnemar_p(int(wins), int(losses)) <= 0.05 for wins, losses, _ in draws)
    # The exact test is somewhat conservative.
    assert 0.74 <= power / _SIMULATIONS <= 0.84


def test_the_items_needed_of_a_mean_give_the_power_that_they_promise() -> None:
    generator = np.random.default_rng(4)
    gaps = generator.normal(0.1, 0.5, size=4000)
    metrics = [mean_metric("f1", values) for values in (gaps, np.full(4000, 1e-9))]
    result = compare(metrics[0], metrics[1])
    assert result is not None
    expected = (1.959964 + 0.841621) ** 2 * (gaps.std() / gaps.mean()) ** 2
    assert result.items_needed == pytest.approx(expected, rel=0.05)
    assert isinstance(metrics[0], TaskMetric)
