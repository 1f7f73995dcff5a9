"""Intervals and tests agree with SciPy and with each method's definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from evaluation.metric import TaskMetric, mean_metric, ratio
from evaluation.results import PairedResult
from evaluation.statistics.bootstrap import bootstrap_interval
from evaluation.statistics.holm import adjust_comparisons
from evaluation.statistics.normal import t95
from evaluation.statistics.paired import compare
from evaluation.statistics.paired_proportions import mcnemar_p, tango_interval
from evaluation.statistics.randomization import randomization_p
from evaluation.statistics.summary import summarise
from safety.binomial import holm


def test_a_proportion_has_the_wilson_interval_of_scipy() -> None:
    values = np.array([1.0] * 17 + [0.0] * 8 + [math.nan] * 5)
    result = summarise(mean_metric("accuracy", values))
    expected = stats.binomtest(17, 25).proportion_ci(method="wilson")
    assert result is not None
    assert (result.value, result.items) == (17 / 25, 25)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_the_bootstrap_interval_agrees_with_scipy_for_many_items() -> None:
    generator = np.random.default_rng(3)
    values = generator.exponential(size=300)
    result = summarise(mean_metric("f1", values))
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=5000, method="percentile", rng=4
    ).confidence_interval
    assert result is not None
    width = expected.high - expected.low
    assert result.low == pytest.approx(expected.low, abs=0.05 * width)
    assert result.high == pytest.approx(expected.high, abs=0.05 * width)


def test_the_bootstrap_handles_functions_of_several_sums() -> None:
    generator = np.random.default_rng(5)
    bytes_of = generator.integers(20, 400, size=250).astype(float)
    nats = bytes_of * generator.normal(0.9, 0.2, size=250)
    interval = bootstrap_interval(np.column_stack([nats, bytes_of]), ratio)
    expected = stats.bootstrap(
        (nats, bytes_of),
        lambda x, y, axis: x.sum(axis=axis) / y.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=5000,
        method="percentile",
        rng=4,
    )
    assert interval[:2] == pytest.approx(tuple(expected.confidence_interval), abs=0.003)
    assert interval.standard_error == pytest.approx(float(expected.standard_error), rel=0.05)


def test_for_few_items_the_interval_is_about_that_of_students_t() -> None:
    values = np.random.default_rng(9).normal(size=12)
    result = summarise(mean_metric("f1", values))
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert result is not None
    assert result.high - result.low == pytest.approx(float(expected[1] - expected[0]), rel=0.1)


@pytest.mark.parametrize("degrees", [5, 9, 30, 400])
def test_the_quantile_of_students_t(degrees: int) -> None:
    assert t95(degrees) == pytest.approx(float(stats.t.ppf(0.975, degrees)), rel=2e-3)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (9, 2), (30, 51), (400, 350)])
def test_mcnemar_is_the_exact_binomial_test(wins: int, losses: int) -> None:
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar_p(wins, losses) == pytest.approx(float(expected), rel=1e-9)


def _score_interval(wins: int, losses: int, items: int) -> list[float]:
    """Return Tango's interval, with the nuisance probability found by numeric maximization."""

    def statistic(difference: float) -> float:
        def loss(share: float) -> float:
            p = np.array([share + difference, share, 1 - difference - 2 * share])
            counts = np.array([wins, losses, items - wins - losses])
            if (p < 0).any() or (p[counts > 0] <= 0).any():
                return math.inf
            return -float((counts[counts > 0] * np.log(p[counts > 0])).sum())

        lowest, highest = max(0.0, -difference), (1 - difference) / 2
        share = optimize.minimize_scalar(
            loss, bounds=(lowest, highest), method="bounded", options={"xatol": 1e-12}
        ).x
        variance = items * (2 * share + difference * (1 - difference))
        return float((wins - losses - items * difference) / math.sqrt(variance))

    z = float(stats.norm.ppf(0.975))
    gap = (wins - losses) / items
    low = optimize.brentq(lambda d: statistic(d) - z, -0.99, gap - 1e-6)
    high = optimize.brentq(lambda d: statistic(d) + z, gap + 1e-6, 0.99)
    return [float(low), float(high)]


@pytest.mark.parametrize(("wins", "losses", "items"), [(12, 2, 50), (3, 7, 30), (41, 40, 1000)])
def test_tango_is_the_score_interval(wins: int, losses: int, items: int) -> None:
    expected = _score_interval(wins, losses, items)
    assert list(tango_interval(wins, losses, items)) == pytest.approx(expected, abs=2e-4)


def test_tango_without_an_unequal_item_still_has_a_width() -> None:
    z2 = float(stats.chi2.ppf(0.95, 1))
    bound = z2 / (40 + z2)
    assert tango_interval(0, 0, 40) == pytest.approx((-bound, bound), abs=1e-9)


def test_the_randomization_test_agrees_with_scipy() -> None:
    generator = np.random.default_rng(8)
    first, second = generator.normal(0.2, 1, size=(2, 60))
    second -= 0.2
    expected = stats.permutation_test(
        (first, second),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        rng=1,
    )
    pairs = [np.column_stack([values, np.ones(60)]) for values in (first, second)]
    p = randomization_p(pairs[0], pairs[1], ratio)
    assert p == pytest.approx(float(expected.pvalue), abs=0.02)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert max(holm([0.5, 0.9])) <= 1.0


def test_comparisons_are_adjusted_over_all_tasks() -> None:
    results = {
        task: {"accuracy": PairedResult(0.1, 0, 0.2, p, p, "mcnemar", 1, 0, 9, 100)}
        for task, p in (("a", 0.01), ("b", 0.02))
    }
    adjusted = adjust_comparisons(results)
    assert adjusted["a"]["accuracy"].p_holm == pytest.approx(0.02)
    assert adjusted["b"]["accuracy"].p_holm == pytest.approx(0.02)


@pytest.mark.parametrize(("wins", "ties", "losses"), [(0, 6, 0), (1, 49, 0), (30, 10, 20)])
def test_a_win_rate_with_ties_has_an_interval_of_wins_and_losses(
    wins: int, ties: int, losses: int
) -> None:
    values = np.repeat([1.0, 0.5, 0.0], [wins, ties, losses])
    result = summarise(mean_metric("win_rate", values))
    assert result is not None
    low, high = tango_interval(wins, losses, len(values))
    assert (2 * result.low - 1, 2 * result.high - 1) == pytest.approx((low, high))
    assert result.low < 0.5 < result.high


def test_equal_values_on_few_items_are_no_proof_of_equality() -> None:
    few = mean_metric("token_f1", np.array([0.2, 0.5, 0.9]))
    result = compare(few, few)
    assert result is not None
    assert (result.difference, result.p) == (0.0, 1.0)
    assert result.low < -0.5
    assert result.high > 0.5


def test_groups_and_clean_values() -> None:
    metric = mean_metric("accuracy", np.array([1.0, 0.0, 1.0, 1.0, math.nan]))
    result = summarise(
        metric,
        ["law", "law", "art", None, "void"],
        contaminated=[True, False, False, False, False],
    )
    assert result is not None
    assert result.by_group == {"art": 1.0, "law": 0.5}
    assert result.clean == pytest.approx(2 / 3)
    untouched = summarise(metric, contaminated=[False] * 5)
    assert untouched is not None
    assert untouched.clean is None


def test_a_metric_without_a_scored_item_has_no_result() -> None:
    nothing = mean_metric("f1", np.array([math.nan, math.nan]))
    assert summarise(nothing) is None
    assert compare(nothing, nothing) is None


def test_a_difference_is_of_the_items_that_both_were_scored_on() -> None:
    model = mean_metric("accuracy", np.array([1.0, 1.0, 0.0, math.nan, 1.0]))
    other = mean_metric("accuracy", np.array([0.0, 1.0, 1.0, 1.0, math.nan]))
    result = compare(model, other)
    assert result is not None
    assert (result.wins, result.losses, result.ties) == (1, 1, 1)
    assert (result.difference, result.p, result.items_needed) == (0.0, 1.0, None)


def test_fewer_errors_are_wins() -> None:
    model = mean_metric("error", np.array([0.0] * 9 + [1.0]), higher_is_better=False)
    other = mean_metric("error", np.array([1.0] * 9 + [1.0]), higher_is_better=False)
    result = compare(model, other)
    assert result is not None
    assert (result.wins, result.losses) == (9, 0)
    assert result.difference == pytest.approx(-0.9)
    assert result.low < -0.9 < result.high < 0


def test_models_with_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="3 items of the model and 2 of the other"):
        compare(mean_metric("f1", np.zeros(3)), mean_metric("f1", np.zeros(2)))


def test_a_difference_of_corpus_metrics() -> None:
    generator = np.random.default_rng(2)
    length = generator.integers(50, 60, size=200).astype(float)
    nats = length * generator.normal(1.0, 0.05, size=200)

    def metric(factor: float) -> TaskMetric:
        values = np.column_stack([nats * factor + generator.normal(0, 0.1, size=200), length])
        return TaskMetric("bits_per_byte", "corpus", values, ratio, higher_is_better=False)

    result = compare(metric(0.98), metric(1.0))
    assert result is not None
    assert result.test == "randomization"
    assert result.low < result.difference < result.high < 0
    assert result.p < 0.001
    assert (result.wins, result.losses, result.ties) == (0, 0, 0)


def test_clusters_of_equal_items_count_once() -> None:
    generator = np.random.default_rng(6)
    documents = generator.normal(size=40)
    repeated = mean_metric("f1", np.repeat(documents, 10))
    names = [str(number) for number in np.repeat(np.arange(40), 10)]
    once, alone, together = (
        summarise(mean_metric("f1", documents)),
        summarise(repeated),
        summarise(repeated, clusters=names),
    )
    assert once is not None
    assert alone is not None
    assert together is not None
    assert (together.low, together.high) == pytest.approx((once.low, once.high))
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


def test_the_seed_determines_the_interval() -> None:
    metric = mean_metric("f1", np.random.default_rng(1).random(50))
    assert summarise(metric, seed=1) == summarise(metric, seed=1)
    assert summarise(metric, seed=1) != summarise(metric, seed=2)
