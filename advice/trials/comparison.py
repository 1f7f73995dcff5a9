"""Comparison of trained models with the base, on the same held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from advice.row_scorer import RowScore
from evaluation.statistics.bootstrap import bootstrap_interval

Interval = tuple[float, float]


@dataclass(frozen=True)
class TrialResult:
    """Result of one approach.

    Attributes:
        name: Name of the approach.
        loss: Loss on the rows that compare, in nats per token.
        interval: Its 95 % interval over rows.
        difference: Loss less that of the base on the same rows, with its 95 % interval.
        to_best: Loss less that of the result with the lowest loss, with its 95 % interval.
        learning_rate: Learning rate that was chosen; None without training.
        seconds: Seconds of its trainings.
        note: Why it was not measured; empty if it was.
    """

    name: str
    loss: float | None = None
    interval: Interval | None = None
    difference: tuple[float, Interval] | None = None
    to_best: tuple[float, Interval] | None = None
    learning_rate: float | None = None
    seconds: float = 0.0
    note: str = ""


def compare_with_base(
    name: str, scores: Sequence[RowScore], base: Sequence[RowScore]
) -> TrialResult:
    """Return the result of an approach.

    Args:
        name: Name of the approach.
        scores: Its scores of the rows that compare.
        base: Scores of the base on the same rows.
    """
    sums = np.array([(score.nats, score.tokens) for score in scores])
    own = bootstrap_interval(sums, lambda total: total[..., 0] / total[..., 1])
    loss = float(sums[:, 0].sum() / sums[:, 1].sum())
    return TrialResult(name, loss, (own.low, own.high), paired_difference(scores, base))


def paired_difference(
    scores: Sequence[RowScore], others: Sequence[RowScore]
) -> tuple[float, Interval]:
    """Return the difference of two losses on the same rows, with its 95 % interval.

    Args:
        scores: Scores of the rows.
        others: Scores of the same rows by another model.
    """
    sums = np.array([(a.nats - b.nats, a.tokens) for a, b in zip(scores, others, strict=True)])
    interval = bootstrap_interval(sums, lambda total: total[..., 0] / total[..., 1])
    return float(sums[:, 0].sum() / sums[:, 1].sum()), (interval.low, interval.high)


def compare_with_best(
    scored: Sequence[tuple[TrialResult, Sequence[RowScore]]],
) -> list[TrialResult]:
    """Return the results, each with its difference from the one with the lowest loss.

    Args:
        scored: Results with their scores of the rows that compare.
    """
    measured = [(result, scores) for result, scores in scored if result.loss is not None]
    _, best = min(measured, key=lambda item: item[0].loss or 0.0)
    return [
        replace(result, to_best=paired_difference(scores, best) if scores else None)
        for result, scores in scored
    ]
