"""Two-sample permutation tests: does a window of traffic differ from the training set?

Under the hypothesis that both are drawn alike, every way to choose the window among all rows is as
likely as the actual one. One set of such choices serves all statistics, so that they are tested on
the same permutations. p = (1 + number of permutations at least as extreme) / (1 + permutations),
which is exact for any sample size (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_CHUNK = 8_000_000
"""Most numbers of an intermediate result, so that memory stays bounded."""


@dataclass(frozen=True)
class TwoSampleResult:
    """Result of a test.

    Attributes:
        statistic: Value of the statistic.
        p: Its p-value.
        expected: Its mean under the permutations, without a difference.
    """

    statistic: float
    p: float
    expected: float

    @property
    def excess(self) -> float:
        """Part of the statistic beyond its mean without a difference; never negative."""
        return max(0.0, self.statistic - self.expected)


class PermutationTest:
    """Permutations of the rows of two samples, and the tests on them.

    Args:
        first: Rows of the first sample, the training set; they come first in all arguments.
        second: Rows of the second sample, the window.
        permutations: Number of permutations.
        seed: Seed of the permutations.
    """

    def __init__(self, first: int, second: int, *, permutations: int = 999, seed: int = 0):
        rows = first + second
        generator = np.random.default_rng(seed)
        members = np.zeros((permutations + 1, rows), dtype=np.float32)
        members[0, first:] = 1
        drawn = np.argpartition(
            generator.random((permutations, rows), dtype=np.float32), second - 1, axis=1
        )[:, :second]
        members[np.arange(1, permutations + 1)[:, None], drawn] = 1
        self._members, self._first, self._second = members, first, second

    def kolmogorov_smirnov(self, values: Floats) -> TwoSampleResult:
        """Test the greatest distance between two distribution functions, from 0 to 1.

        Args:
            values: Value of each row, of shape (rows,).
        """
        order = np.argsort(values, kind="stable")
        ordered = values[order]
        # Between equal values, the distribution functions are not defined.
        steps = np.append(ordered[1:] != ordered[:-1], True)
        members = self._members[:, order]
        below = np.cumsum(members, axis=1)[:, steps]
        count = (np.flatnonzero(steps) + 1).astype(np.float32)
        gaps = below / self._second - (count - below) / self._first
        return _result(np.abs(gaps).max(axis=1))

    def total_variation(self, counts: NDArray[np.float32]) -> TwoSampleResult:
        """Test half the sum of the differences of all shares, from 0 to 1.

        Args:
            counts: Counts of each row by category, of shape (rows, categories).
        """
        window, training = self._shares(counts)
        return _result(np.abs(window - training).sum(axis=1) / 2)

    def jensen_shannon(self, counts: NDArray[np.float32]) -> TwoSampleResult:
        """Test the Jensen-Shannon distance, the root of the divergence in bits, from 0 to 1.

        Lin 1991, doi:10.1109/18.61115.

        Args:
            counts: Counts of each row by category, of shape (rows, categories).
        """
        window, training = self._shares(counts)
        middle = (window + training) / 2
        divergence = (_relative_entropy(window, middle) + _relative_entropy(training, middle)) / 2
        return _result(np.sqrt(np.maximum(divergence, 0)))

    def _shares(self, counts: NDArray[np.float32]) -> tuple[Floats, Floats]:
        window = (self._members @ counts).astype(np.float64)
        training = counts.sum(axis=0, dtype=np.float64) - window
        return _as_shares(window), _as_shares(training)

    def maximum_mean_discrepancy(self, kernel: NDArray[np.float32]) -> TwoSampleResult:
        """Test the squared maximum mean discrepancy, without the kernel of a row with itself.

        Gretton et al. 2012, https://www.jmlr.org/papers/v13/gretton12a.html.

        Args:
            kernel: Kernel of each two rows, of shape (rows, rows).
        """
        kernel = kernel.copy()
        np.fill_diagonal(kernel, 0)
        m, n = self._second, self._first
        rows = len(kernel)
        values = []
        for start in range(0, len(self._members), max(1, _CHUNK // rows)):
            members = self._members[start : start + max(1, _CHUNK // rows)]
            within = members @ kernel
            both = (within * members).sum(axis=1, dtype=np.float64)
            across = within.sum(axis=1, dtype=np.float64) - both
            others = kernel.sum(dtype=np.float64) - both - 2 * across
            values.append(
                both / max(1, m * (m - 1)) + others / max(1, n * (n - 1)) - 2 * across / (m * n)
            )
        return _result(np.concatenate(values))


def _as_shares(counts: Floats) -> Floats:
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _relative_entropy(shares: Floats, reference: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(shares > 0, shares * np.log2(shares / reference), 0.0)
    return np.asarray(terms.sum(axis=1))


def _result(values: NDArray[np.floating]) -> TwoSampleResult:
    """Return the result for the values of the actual window, which is first, and the others."""
    actual, others = float(values[0]), values[1:].astype(np.float64)
    # Equal up to the last bits, which depend on the order of a sum.
    as_extreme = int((others >= actual - 1e-9 - 1e-6 * abs(actual)).sum())
    return TwoSampleResult(actual, (1 + as_extreme) / (1 + len(others)), float(others.mean()))
