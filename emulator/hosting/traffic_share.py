"""Choice of the requests of a share of the traffic.

They are evenly spread instead of random, so that the share is exact.
"""

from __future__ import annotations

from fractions import Fraction


class RequestCounter:
    """Numbers of the requests to each endpoint or component, from 0."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def next(self, name: str) -> int:
        """Return the number of the next request."""
        number = self._numbers[name] = self._numbers.get(name, -1) + 1
        return number

    def clear(self) -> None:
        """Begin again at 0."""
        self._numbers.clear()


def is_in_share(share: Fraction, number: int) -> bool:
    """Return whether the request of a number belongs to a share of the traffic."""
    return (number + 1) * share // 1 > number * share // 1
