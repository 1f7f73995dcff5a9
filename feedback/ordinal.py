"""Agreement of rankings: Kendall's tau-b, Spearman's rho, Krippendorff's alpha for ordinal data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from nltk.metrics.agreement import AnnotationTask


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Return Kendall's tau-b of two rankings; None if one ties all answers."""
    signs = [
        (_sign(one[i] - one[j]), _sign(other[i] - other[j]))
        for i, j in combinations(range(len(one)), 2)
    ]
    untied = [sum(sign[side] != 0 for sign in signs) for side in (0, 1)]
    if not all(untied):
        return None
    return sum(a * b for a, b in signs) / math.sqrt(untied[0] * untied[1])


def spearman_rho(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Return Spearman's rho of two rankings; None if one ties all answers."""
    ranks = [_average_ranks(one), _average_ranks(other)]
    middle = (len(one) + 1) / 2
    first, second = ([rank - middle for rank in each] for each in ranks)
    scale = math.sqrt(sum(a * a for a in first) * sum(b * b for b in second))
    return sum(a * b for a, b in zip(first, second, strict=True)) / scale if scale else None


def ordinal_alpha(units: Sequence[Sequence[float]]) -> float | None:
    """Return Krippendorff's alpha for ordinal data; None without two different values.

    Computed by NLTK with the ordinal distance of Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability", https://repository.upenn.edu/handle/20.500.14332/2089.

    Args:
        units: Values that the annotators gave to each unit; units with one value are left out.
    """
    pairable = [values for values in units if len(values) > 1]
    totals = Counter(value for values in pairable for value in values)
    if len(totals) < 2:
        return None
    distances = _distances(totals)
    triples = [
        (str(annotator), str(unit), value)
        for unit, values in enumerate(pairable)
        for annotator, value in enumerate(values)
    ]
    task = AnnotationTask(data=triples, distance=lambda one, other: distances[one, other])
    return float(task.alpha())


def _distances(totals: Counter[float]) -> dict[tuple[float, float], float]:
    """Return the squared ordinal distance of any two values."""
    ordered = sorted(totals)
    distances = {}
    for low, one in enumerate(ordered):
        for high in range(low, len(ordered)):
            other = ordered[high]
            between = math.fsum(totals[value] for value in ordered[low : high + 1])
            squared = (between - (totals[one] + totals[other]) / 2) ** 2
            distances[one, other] = distances[other, one] = squared
    return distances


def _average_ranks(values: Sequence[float]) -> list[float]:
    return [
        1 + sum(other < value for other in values) + (values.count(value) - 1) / 2
        for value in values
    ]


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
