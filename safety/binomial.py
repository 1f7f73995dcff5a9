"""Binomial proportions: Wilson intervals, tail probabilities, exact tests, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_Z95 = 1.959964


@dataclass(frozen=True)
class Proportion:
    """Proportion with its 95 % interval.

    Attributes:
        count: Number of successes.
        of: Number of trials.
    """

    count: int
    of: int

    @property
    def value(self) -> float:
        """The proportion; NaN without trials."""
        return self.count / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
        if not self.of:
            return 0.0, 1.0
        n, z = self.of, _Z95
        middle = (self.value + z * z / (2 * n)) / (1 + z * z / n)
        half = (
            z / (1 + z * z / n) * math.sqrt(self.value * (1 - self.value) / n + z * z / (4 * n * n))
        )
        return max(0.0, middle - half), min(1.0, middle + half)

    def excludes(self, share: float) -> bool:
        """Return True if a share lies outside the interval."""
        low, high = self.interval
        return not low <= share <= high

    def document(self) -> dict[str, object]:
        """Return the proportion as a JSON object."""
        value = None if not self.of else round(self.value, 4)
        return {"count": self.count, "of": self.of, "share": value, "interval": self.interval}


def at_most(count: int, of: int, share: float) -> float:
    """Return P(X <= count) for a binomial X of `of` trials with success probability `share`.

    Args:
        count: Number of successes.
        of: Number of trials.
        share: Success probability.
    """
    if share >= 1:
        return 1.0 if count >= of else 0.0
    logs = [
        math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)
        + (k * math.log(share) if k else 0.0) + (of - k) * math.log1p(-share)
        for k in range(count + 1)
        if share > 0 or not k
    ]  # fmt: skip
    return min(1.0, math.fsum(math.exp(value) for value in logs))


def fisher_greater(group: Proportion, rest: Proportion) -> float:
    """Return the one-sided p-value of Fisher's exact test that a group's share is the greater one.

    It is P(X >= count) of a hypergeometric X: the successes in a group of this size if all
    successes were dealt at random (Fisher 1922, doi:10.2307/2340521).

    Args:
        group: Proportion of a group.
        rest: Proportion of all others.
    """
    total, successes = group.of + rest.of, group.count + rest.count
    most = min(group.of, successes)
    if not group.of or not rest.of or group.count <= max(0, successes - rest.of):
        return 1.0

    def log_choose(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    def probability(count: int) -> float:
        ways = log_choose(successes, count) + log_choose(total - successes, group.of - count)
        return math.exp(ways - log_choose(total, group.of))

    mean = group.of * successes / total
    if group.count > mean:  # beyond the mode the terms fall, and soon no longer matter
        return min(1.0, _falling_sum(probability, range(group.count, most + 1)))
    below = range(group.count - 1, max(0, successes - rest.of) - 1, -1)
    return max(0.0, 1.0 - _falling_sum(probability, below))


def _falling_sum(probability: Callable[[int], float], counts: range) -> float:
    total = 0.0
    for count in counts:
        term = probability(count)
        total += term
        if term <= 1e-17 * total:
            break
    return total


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm, in the order given.

    With them, the chance that any of the comparisons without a difference is called different is
    at most the level (Holm 1979, https://www.jstor.org/stable/4615733).
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
