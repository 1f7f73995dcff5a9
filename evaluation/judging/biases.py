"""Biases of pairwise verdicts: position and length, and the win rate without that of length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.judging.pairwise import OrderedVerdicts
from safety.binomial import Proportion

_SEED = 0
_RESAMPLES = 1000
_STEPS = 25
_RIDGE = 0.05
"""Weight of the penalty on the coefficient of length, without which it is infinite if the longer
answer always wins."""


def flips(verdicts: Sequence[OrderedVerdicts]) -> Proportion:
    """Return how often the verdict depends on the order of the answers."""
    judged = [verdict.flipped for verdict in verdicts if verdict.flipped is not None]
    return Proportion(sum(judged), len(judged))


def first_preferred(verdicts: Sequence[OrderedVerdicts]) -> Proportion:
    """Return how often the answer shown first was preferred, ties omitted; without bias, half."""
    first = [
        verdict.model_first == "model" for verdict in verdicts if _decided(verdict.model_first)
    ]
    first += [
        verdict.other_first == "other" for verdict in verdicts if _decided(verdict.other_first)
    ]
    return Proportion(sum(first), len(first))


def _decided(preference: str | None) -> bool:
    return preference in ("model", "other")


def longer_preferred(wins: Sequence[float], gaps: Sequence[int]) -> Proportion:
    """Return how often the longer answer won; ties and answers of equal length are omitted.

    Args:
        wins: 1 if the model won, 0 if the other did, 0.5 for a tie, NaN if there is no verdict.
        gaps: Words of the model's answer minus those of the other.
    """
    decided = [
        (win == 1) == (gap > 0)
        for win, gap in zip(wins, gaps, strict=True)
        if win in (0, 1) and gap
    ]
    return Proportion(sum(decided), len(decided))


def word_gap(first: str, second: str) -> int:
    """Return how many words the first text has more than the second."""
    return len(first.split()) - len(second.split())


@dataclass(frozen=True)
class LengthControlledWinRate:
    """Win rate that is expected of answers of equal length.

    Attributes:
        value: The win rate.
        low: Lower bound of its 95 % interval.
        high: Upper bound.
    """

    value: float
    low: float
    high: float


def length_controlled_win_rate(
    wins: Sequence[float], gaps: Sequence[int], resamples: int = _RESAMPLES
) -> LengthControlledWinRate | None:
    """Return the win rate at equal length, by a logistic regression on the difference of length.

    The regression of AlpacaEval 2 (Dubois et al. 2024, https://arxiv.org/abs/2404.04475) without
    its term for the difficulty of an instruction: logit P(win) = a + b tanh(gap / sd(gap)); the
    win rate at equal length is the logistic function of a. The interval is a bootstrap over items.

    Args:
        wins: 1 if the model won, 0 if the other did, 0.5 for a tie, NaN if there is no verdict.
        gaps: Words of the model's answer minus those of the other.
        resamples: Number of resamples.

    Returns:
        None with fewer than ten verdicts.
    """
    outcome, gap = np.asarray(wins, dtype=np.float64), np.asarray(gaps, dtype=np.float64)
    judged = ~np.isnan(outcome)
    outcome, gap = outcome[judged], gap[judged]
    if len(outcome) < 10:
        return None
    scale = float(gap.std())
    length = np.tanh(gap / scale) if scale else np.zeros_like(gap)
    generator = np.random.default_rng(_SEED)
    items = len(outcome)
    counts = generator.multinomial(items, np.full(items, 1 / items), size=resamples)
    weights = np.vstack([np.ones(items), counts])
    values = 1 / (1 + np.exp(-_intercepts(length, outcome, weights)))
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return LengthControlledWinRate(float(values[0]), float(low), float(high))


def _intercepts(
    length: NDArray[np.float64], outcome: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the intercept of the regression under each row of weights, by Newton's method.

    Args:
        length: Difference of length of each item, of shape (items,).
        outcome: 1, 0.5 or 0 of each item, of shape (items,).
        weights: Weights of the items, of shape (fits, items).
    """
    intercept, slope = np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-(intercept[:, None] + slope[:, None] * length)))
        gap, curve = weights * (outcome - p), weights * p * (1 - p)
        # The penalty keeps the fit finite if all items are wins.
        gradient = gap.sum(1) - _RIDGE * intercept, gap @ length - _RIDGE * slope
        one, mixed, two = curve.sum(1) + _RIDGE, curve @ length, curve @ length**2 + _RIDGE
        determinant = one * two - mixed**2
        # Steps are limited, because Newton's method can overshoot where nearly all items are wins.
        intercept = intercept + np.clip(
            (two * gradient[0] - mixed * gradient[1]) / determinant, -2, 2
        )
        slope = slope + np.clip((one * gradient[1] - mixed * gradient[0]) / determinant, -2, 2)
    return intercept
