"""Binomial proportions: 95 % Wilson intervals and tail probabilities."""

from __future__ import annotations

import math
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
