"""Kernel of embeddings, and how well its mean tells two samples apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MEDIAN_ROWS = 500


def gaussian_kernel(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the Gaussian kernel of each two rows, of shape (rows, rows).

    Dimensions are standardized over all rows, since those of hidden states differ by orders of
    magnitude. The bandwidth is the median distance (Gretton et al. 2012, section 8).

    Args:
        rows: Embeddings of both samples, of shape (rows, dimensions).
    """
    scale = rows.std(axis=0)
    scaled = (rows - rows.mean(axis=0)) / np.where(scale > 0, scale, 1)
    squares = (scaled**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * scaled @ scaled.T, 0)
    some = distances[:: max(1, len(rows) // _MEDIAN_ROWS)]
    median = float(np.median(some[some > 0])) if (some > 0).any() else 1.0
    return np.asarray(np.exp(-distances / median), dtype=np.float32)


def witness(kernel: NDArray[np.float32], first: int) -> NDArray[np.float64]:
    """Return how much nearer each row is to the second sample than to the first.

    It is the witness function of the maximum mean discrepancy, with each row left out of the mean
    of its own sample, so that it classifies rows that it has not seen.

    Args:
        kernel: Kernel of each two rows; those of the first sample come first.
        first: Rows of the first sample.
    """
    second = len(kernel) - first
    own = np.diagonal(kernel).astype(np.float64)
    to_first = kernel[:, :first].sum(axis=1, dtype=np.float64)
    to_second = kernel[:, first:].sum(axis=1, dtype=np.float64)
    in_first = np.arange(len(kernel)) < first
    to_first = (to_first - np.where(in_first, own, 0)) / np.where(in_first, first - 1, first)
    to_second = (to_second - np.where(in_first, 0, own)) / np.where(in_first, second, second - 1)
    return np.asarray(to_second - to_first)


def separability(scores: NDArray[np.float64], first: int) -> float:
    """Return the area under the ROC curve of scores: 0.5 if they tell the samples not apart.

    Args:
        scores: Score of each row; those of the first sample come first.
        first: Rows of the first sample.
    """
    values, ranks = np.unique(scores, return_inverse=True)
    counts = np.bincount(ranks, minlength=len(values))
    middle = np.cumsum(counts) - (counts - 1) / 2
    second = len(scores) - first
    of_second = middle[ranks[first:]].sum()
    return float((of_second - second * (second + 1) / 2) / (first * second))
