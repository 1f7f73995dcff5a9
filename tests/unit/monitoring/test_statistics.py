"""Permutation tests, control chart and rule of the alarm, against other implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, kstest
from sklearn.metrics import roc_auc_score

from monitoring.errors import WatchError
from monitoring.statistics.control_chart import Baseline, control_chart
from monitoring.statistics.embeddings import gaussian_kernel, separability, witness
from monitoring.statistics.k_of_n import alarms, parse_rule
from monitoring.statistics.permutation import PermutationTest

RNG = np.random.default_rng(0)
FIRST, SECOND = 60, 25


def test_statistics_equal_those_of_other_implementations() -> None:
    test = PermutationTest(FIRST, SECOND, permutations=20)
    values = RNG.integers(0, 9, FIRST + SECOND).astype(float)  # with ties
    assert test.kolmogorov_smirnov(values).statistic == pytest.approx(
        ks_2samp(values[:FIRST], values[FIRST:]).statistic, abs=1e-6
    )
    counts = RNG.integers(0, 3, (FIRST + SECOND, 7)).astype(np.float32)
    old, new = counts[:FIRST].sum(axis=0), counts[FIRST:].sum(axis=0)
    assert test.jensen_shannon(counts).statistic == pytest.approx(
        jensenshannon(old, new, base=2), abs=1e-6
    )
    assert test.total_variation(counts).statistic == pytest.approx(
        np.abs(old / old.sum() - new / new.sum()).sum() / 2, abs=1e-6
    )
    kernel = gaussian_kernel(RNG.normal(size=(FIRST + SECOND, 5)).astype(np.float32))
    within = [kernel[:FIRST, :FIRST], kernel[FIRST:, FIRST:]]
    parts = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in within]
    expected = sum(parts) - 2 * kernel[:FIRST, FIRST:].mean()
    assert test.maximum_mean_discrepancy(kernel).statistic == pytest.approx(expected, abs=1e-5)
    scores = witness(kernel, FIRST)
    left_out = np.delete(kernel[FIRST, FIRST:], 0).mean() - kernel[FIRST, :FIRST].mean()
    assert scores[FIRST] == pytest.approx(left_out, abs=1e-6)
    labels = np.arange(FIRST + SECOND) >= FIRST
    assert separability(scores, FIRST) == pytest.approx(roc_auc_score(labels, scores))
    assert separability(values, FIRST) == pytest.approx(roc_auc_score(labels, values))


def test_p_values_are_uniform_without_a_difference() -> None:
    found: dict[str, list[float]] = {"ks": [], "js": [], "mmd": []}
    for seed in range(150):
        test = PermutationTest(30, 12, permutations=99, seed=seed)
        rows = np.random.default_rng(1000 + seed).normal(size=(42, 3)).astype(np.float32)
        found["ks"].append(test.kolmogorov_smirnov(rows[:, 0].astype(float)).p)
        found["js"].append(test.jensen_shannon((rows > 0).astype(np.float32)).p)
        found["mmd"].append(test.maximum_mean_discrepancy(gaussian_kernel(rows)).p)
    for name, p in found.items():
        assert np.mean(np.array(p) <= 0.05) <= 0.1, name
        if name == "mmd":  # the others have few values
            assert kstest(p, "uniform").pvalue > 0.001


def test_a_planted_difference_is_found() -> None:
    rows = RNG.normal(size=(150, 4)).astype(np.float32)
    rows[100:] += 0.8
    test = PermutationTest(100, 50, permutations=199)
    kernel = gaussian_kernel(rows)
    assert test.maximum_mean_discrepancy(kernel).p == 1 / 200
    assert separability(witness(kernel, 100), 100) > 0.7
    assert test.kolmogorov_smirnov(rows[:, 0].astype(float)).p < 0.02


BASELINE = Baseline("s.t.judge_rating", 7.0, 6.8, 7.2, 400)


def test_control_chart_finds_a_lower_rating_and_rarely_errs() -> None:
    error = BASELINE.deviation / math.sqrt(20)
    runs = [RNG.normal(7.0, error, 30) for _ in range(200)]
    worse = [
        any(p is not None and p.worse for p in control_chart([(x, 20) for x in run], BASELINE))
        for run in runs
    ]
    assert np.mean(worse) < 0.05  # in thirty windows
    points = control_chart([(7.0, 20), None, *[(7.0 - 1.5 * error, 20)] * 8], BASELINE)
    assert points[0] is not None and not points[0].worse and points[1] is None
    assert points[-1] is not None and points[-1].worse
    better = control_chart([(9.9, 20)] * 9, BASELINE)[-1]
    assert better is not None and better.ewma > better.high and not better.worse


def test_alarm_on_k_of_n_windows() -> None:
    flags = [True, None, False, True, False, False, True]
    assert alarms(flags, 2, 3) == [False, False, False, True, False, False, False]
    assert alarms([True, True, None], 2, 3) == [False, True, False]
    assert parse_rule("2/3") == parse_rule("2 of 3") == (2, 3)
    for text in ("3/2", "0/3", "often"):
        with pytest.raises(WatchError, match="--alarm"):
            parse_rule(text)
