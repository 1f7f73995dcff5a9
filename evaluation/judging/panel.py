"""Panel of judges: majority of verdicts, and agreement beyond chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from evaluation.judging.pairwise import Preference


def majority(preferences: Sequence[Preference | None]) -> Preference | None:
    """Return what more than half of the judges prefer; otherwise `tie`.

    Args:
        preferences: Preference of each judge; None of one without a usable verdict.

    Returns:
        None if no judge has a usable verdict.
    """
    counts = Counter(preference for preference in preferences if preference is not None)
    if not counts:
        return None
    preference, votes = counts.most_common(1)[0]
    return preference if 2 * votes > counts.total() else "tie"


def mean_kappa(ratings: Sequence[Sequence[float | None]], *, ordinal: bool) -> float | None:
    """Return the mean Cohen's kappa of all two judges.

    Cohen 1960, doi:10.1177/001316446002000104; with quadratic weights for ordinal ratings, Cohen
    1968, doi:10.1037/h0026256.

    Args:
        ratings: Ratings of each judge, in the order of the items; None of an item without one.
        ordinal: True if the distance between ratings counts.

    Returns:
        None if fewer than two judges can be compared, or all their ratings are equal.
    """
    values = []
    for one, other in combinations(ratings, 2):
        both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
        kappa = _kappa(both, ordinal=ordinal) if both else None
        if kappa is not None:
            values.append(kappa)
    return float(np.mean(values)) if values else None


def _kappa(pairs: Sequence[tuple[float, float]], *, ordinal: bool) -> float | None:
    table = np.asarray(pairs, dtype=np.float64)
    categories = np.unique(table)
    if len(categories) < 2:
        return None
    gaps = categories[:, None] - categories[None, :]
    weights = gaps**2 if ordinal else (gaps != 0).astype(np.float64)
    first, second = ((table[:, side, None] == categories) for side in (0, 1))
    observed = (weights * (first.T.astype(float) @ second.astype(float))).sum() / len(table)
    expected = (weights * np.outer(first.mean(axis=0), second.mean(axis=0))).sum()
    return float(1 - observed / expected) if expected else None
