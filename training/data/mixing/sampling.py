"""Which rows are trained on and how often: limits, held-out rows, weights, replay, order.

Everything here is decided by the seed and the rows' numbers alone, so every process and every
resumed run decides the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.errors import DataError

Indices = npt.NDArray[np.int64]


def hold_out(
    documents: Sequence[Indices], share: float, rng: np.random.Generator
) -> tuple[list[Indices], list[Indices]]:
    """Split sources into rows to train on and rows held out, never parting a document.

    Args:
        documents: For each source, the document that each of its rows is a part of.
        share: Share of all documents to hold out.
        rng: Decides which.

    Returns:
        For each source the indices of its training rows, and of its held-out rows.

    Raises:
        DataError: There are not two documents to part.
    """
    whole = [np.unique(rows) for rows in documents]
    total = sum(len(rows) for rows in whole)
    if total < 2:
        raise DataError(
            f"data.validation.split {share:.3g} needs at least 2 rows, one on each side; there "
            f"{'is 1' if total == 1 else 'are none'}. Give more data, or validation: none"
        )
    count = min(max(1, round(share * total)), total - 1)
    held = np.zeros(total, dtype=bool)
    held[rng.permutation(total)[:count]] = True
    train, validation = [], []
    start = 0
    for rows, unique in zip(documents, whole, strict=True):
        out = held[start : start + len(unique)][np.searchsorted(unique, rows)]
        start += len(unique)
        train.append(np.flatnonzero(~out))
        validation.append(np.flatnonzero(out))
    return train, validation


def allot(limit: int, available: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Share `limit` rows among sources by weight; what one cannot fill goes to the others.

    Returns:
        Rows of each source, in sum `limit` or all there are.
    """
    shares = [0] * len(available)
    left = min(limit, sum(available))
    while left:
        open_ = [i for i in range(len(available)) if shares[i] < available[i]]
        total = sum(weights[i] for i in open_)
        given = 0
        for i in open_:
            more = min(int(left * weights[i] / total), available[i] - shares[i])
            shares[i] += more
            given += more
        if not given:
            # Less than one row each: the heaviest first.
            for i in sorted(open_, key=lambda i: -weights[i])[:left]:
                shares[i] += 1
                given += 1
        left -= given
    return shares


def weighted(rows: Indices, documents: Indices, weight: float, rng: np.random.Generator) -> Indices:
    """Return the rows of a source as often as its weight says.

    Args:
        rows: Indices of the rows.
        documents: The document of every row of the source.
        weight: Times each row comes up. Of the fraction, whole documents are drawn.
        rng: Decides which.
    """
    times, fraction = int(weight), weight % 1
    parts = [rows] * times
    if fraction:
        whole = np.unique(documents[rows])
        drawn = rng.permutation(whole)[: round(fraction * len(whole))]
        parts.append(rows[np.isin(documents[rows], drawn)])
    return np.concatenate(parts) if parts else rows[:0]


def replayed(lengths: Indices, tokens: int, rng: np.random.Generator) -> tuple[Indices, int]:
    """Draw rows of general text until they hold `tokens` tokens.

    Args:
        lengths: Tokens of each row there is.
        tokens: How many are wanted.
        rng: Decides which; a row only comes again when all have come up.

    Returns:
        Indices of the rows, and how many times the whole set was gone through.
    """
    drawn = [np.zeros(0, dtype=np.int64)]
    rounds = total = 0
    while total < tokens:
        order = rng.permutation(len(lengths))
        running = total + np.cumsum(lengths[order])
        count = min(int(np.searchsorted(running, tokens)) + 1, len(order))
        last = int(running[count - 1])
        # The last row is left out where that comes nearer to what was asked for.
        over = last - tokens
        if total and over > tokens - (last - int(lengths[order[count - 1]])):
            count -= 1
        drawn.append(order[:count])
        rounds += 1
        if last >= tokens:
            break
        total = last
    return np.concatenate(drawn), rounds
