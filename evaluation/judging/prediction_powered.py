"""Prediction-powered estimate: a mean by a judge, corrected by human labels of some items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.statistics.normal import Z95


@dataclass(frozen=True)
class PredictionPoweredMean:
    """Mean with its 95 % interval.

    Attributes:
        value: The mean.
        low: Lower bound of the interval.
        high: Upper bound.
        labelled: Number of items with a human label.
        weight: Weight of the judge: 0 if it tells nothing about the labels, and human labels alone
            count; 1 if it replaces them.
    """

    value: float
    low: float
    high: float
    labelled: int
    weight: float


def prediction_powered_mean(
    judged: Sequence[float], labels: Sequence[float]
) -> PredictionPoweredMean | None:
    """Return the mean that humans would give, from judgements of all items and labels of some.

    With labels H of n items and judgements J of these and of N others, the estimate is
    mean_n(H) + w (mean_N(J) - mean_n(J)): the judge's error is measured on the labelled items and
    subtracted (Angelopoulos et al. 2023, https://arxiv.org/abs/2301.09633), with the weight w of
    the smallest variance (2023, https://arxiv.org/abs/2311.01453, example 6.1). Labelled items must
    be drawn at random, or the judge's error on them is not that on the others.

    Args:
        judged: Judgement of each item, from 0 to 1; NaN of an item without one.
        labels: Human label of each item, from 0 to 1; NaN of an item without one.

    Returns:
        None with fewer than ten labelled items, or without others.
    """
    judgements, humans = np.asarray(judged, float), np.asarray(labels, float)
    usable = ~np.isnan(judgements)
    labelled = usable & ~np.isnan(humans)
    human, judge, others = humans[labelled], judgements[labelled], judgements[usable & ~labelled]
    n, rest = len(human), len(others)
    if n < 10 or rest < 2:
        return None
    spread = float(np.concatenate([judge, others]).var(ddof=1))
    covariance = float(np.cov(human, judge, ddof=1)[0, 1])
    weight = covariance / ((1 + n / rest) * spread) if spread else 0.0
    weight = min(max(weight, 0.0), 1.0)
    value = float(human.mean() + weight * (others.mean() - judge.mean()))
    variance = (
        weight**2 * float(others.var(ddof=1)) / rest
        + float((human - weight * judge).var(ddof=1)) / n
    )
    half = Z95 * math.sqrt(variance)
    return PredictionPoweredMean(
        min(max(value, 0.0), 1.0), max(0.0, value - half), min(1.0, value + half), n, weight
    )
