"""Calibration of multiple choice: Brier score and expected calibration error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.metric import Floats, TaskMetric, mean_metric

BINS = 10
"""Number of bins of equal width of the expected calibration error."""


def calibration_metrics(
    log_likelihoods: Sequence[Sequence[float] | None], right: Sequence[int | None]
) -> list[TaskMetric]:
    """Return the calibration of the choices' probabilities, normalized to 1 over the choices.

    `brier_score` is the sum over choices of the squared error of their probabilities (Brier 1950),
    from 0 to 2. `calibration_error` is the expected calibration error (Guo et al. 2017,
    arXiv:1706.04599): the mean gap between confidence and accuracy, weighted by the items of a bin.

    Args:
        log_likelihoods: Log-likelihood of each choice of each item; None if not scored.
        right: Index of the right choice of each item.
    """
    brier = np.full(len(right), np.nan)
    bins = np.zeros((len(right), BINS, 3))
    for number, (values, answer) in enumerate(zip(log_likelihoods, right, strict=True)):
        if values is None or answer is None:
            continue
        weights = np.exp(np.array(values) - max(values))
        probabilities = weights / weights.sum()
        truth = np.eye(len(values))[answer]
        brier[number] = ((probabilities - truth) ** 2).sum()
        best = int(probabilities.argmax())
        place = min(int(probabilities[best] * BINS), BINS - 1)
        bins[number, place] = (probabilities[best], best == answer, 1)
    return [
        mean_metric("brier_score", brier, higher_is_better=False),
        TaskMetric(
            "calibration_error", "corpus", bins.reshape(len(right), -1), _expected_error, False
        ),
    ]


def _expected_error(sums: Floats) -> Floats:
    """Return the expected calibration error of sums of shape (..., 3 * BINS)."""
    bins = sums.reshape(*sums.shape[:-1], BINS, 3)
    gaps = np.abs(bins[..., 0] - bins[..., 1]).sum(axis=-1)
    items = bins[..., 2].sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(gaps / items)
