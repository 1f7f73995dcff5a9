"""Accuracy of scores: AUC, and precision and recall by threshold, with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

from numpy.typing import NDArray

from safety.binomial import Proportion

_Z = NormalDist().inv_cdf(0.975)
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def accuracy(scores: NDArray[Any], is_good: NDArray[Any]) -> dict[str, Any]:
    """Return the AUC and what each threshold keeps and removes.

    Args:
        scores: Scores of examples, by models that have not learned from them.
        is_good: Whether each is good.
    """
    from sklearn.metrics import roc_auc_score

    good, bad = scores[is_good], scores[~is_good]
    value = float(roc_auc_score(is_good, scores))
    rows = []
    for threshold in THRESHOLDS:
        kept, kept_bad = int((good >= threshold).sum()), int((bad >= threshold).sum())
        rows.append(
            {
                "drop_below": threshold,
                "good_kept": proportion(kept, len(good)),
                "bad_removed": proportion(len(bad) - kept_bad, len(bad)),
                "precision": proportion(kept, kept + kept_bad),
            }
        )
    return {"auc": [value, *auc_interval(value, len(good), len(bad))], "thresholds": rows}


def proportion(count: int, total: int) -> list[float] | None:
    """Return a proportion with its 95 % interval; None of nothing.

    Args:
        count: Number of hits.
        total: Number of trials.
    """
    share = Proportion(count, total)
    return [share.value, *share.interval] if total else None


def auc_interval(value: float, good: int, bad: int) -> tuple[float, float]:
    """Return the score interval of an AUC, method 5 of Newcombe (2006).

    Its variance is that of Hanley and McNeil (1982) at the bound, with the mean of both sizes, so
    that an AUC of 1 has an interval too (https://doi.org/10.1002/sim.2324).

    Args:
        value: The AUC.
        good: Number of good examples.
        bad: Number of bad examples.
    """
    mean = (good + bad) / 2 - 1

    def distance(bound: float) -> float:
        spread = bound * (1 - bound) / (good * bad)
        spread *= 1 + mean * (1 - bound) / (2 - bound) + mean * bound / (1 + bound)
        return abs(value - bound) - _Z * math.sqrt(max(spread, 0.0))

    lower = _crossing(distance, 0.0, value) if value > 0 else 0.0
    upper = _crossing(distance, 1.0, value) if value < 1 else 1.0
    return lower, upper


def _crossing(distance: Callable[[float], float], outside: float, inside: float) -> float:
    """Return where a distance falls to zero, by bisection.

    Args:
        distance: Positive outside the interval.
        outside: Number outside it.
        inside: Number inside it.
    """
    for _ in range(60):
        middle = (outside + inside) / 2
        if distance(middle) > 0:
            outside = middle
        else:
            inside = middle
    return (outside + inside) / 2
