"""Sampling of rows: held-out split, limits, weights and replay.

The results depend on the seed and the row indices only, so every process and every resumed run
makes the same selection.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.errors import DataError

Indices = npt.NDArray[np.int64]


def split_held_out(
    documents: Sequence[Indices], share: float, rng: np.random.Generator
) -> tuple[list[Indices], list[Indices]]:
    """Split sources into training rows and held-out rows without separating a document.

    Args:
        documents: For each source, the document of each of its rows.
        share: Share of all documents to hold out.
        rng: Random generator.

    Returns:
        For each source the indices of its training rows, and of its held-out rows.

    Raises:
        DataError: There are fewer than two documents.
    """
    offsets = np.cumsum([0, *(int(rows.max()) + 1 if len(rows) else 0 for rows in documents)])
    groups = [rows + offset for rows, offset in zip(documents, offsets[:-1], strict=True)]
    return split_groups(groups, share, rng)


def split_groups(
    groups: Sequence[Indices], share: float, rng: np.random.Generator
) -> tuple[list[Indices], list[Indices]]:
    """Split sources into training rows and held-out rows without separating a group.

    Args:
        groups: For each source, the group of each of its rows; a group may be in several sources.
        share: Share of all groups to hold out.
        rng: Random generator.

    Returns:
        For each source the indices of its training rows, and of its held-out rows.

    Raises:
        DataError: There are fewer than two groups.
    """
    unique = np.unique(np.concatenate(groups))
    total = len(unique)
    if total < 2:
        raise DataError(
            f"data.validation.split {share:.3g} needs at least 2 rows, one on each side; there "
            f"{'is 1' if total == 1 else 'are none'}. Give more data, or validation: none"
        )
    count = min(max(1, round(share * total)), total - 1)
    held = np.zeros(total, dtype=bool)
    held[rng.permutation(total)[:count]] = True
    sides = [held[np.searchsorted(unique, rows)] for rows in groups]
    return [np.flatnonzero(~out) for out in sides], [np.flatnonzero(out) for out in sides]


def allocate_rows(limit: int, available: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Allocate `limit` rows to sources by weight; rows that one lacks go to the others.

    Args:
        limit: Rows to allocate.
        available: Rows of each source.
        weights: Weight of each source.

    Returns:
        Rows of each source; their sum is `limit`, or all rows if there are fewer.
    """
    shares = [0] * len(available)
    left = min(limit, sum(available))
    while left:
        open_ = [i for i in range(len(available)) if shares[i] < available[i]]
        total = sum(weights[i] for i in open_)
        allocated = 0
        for i in open_:
            more = min(int(left * weights[i] / total), available[i] - shares[i])
            shares[i] += more
            allocated += more
        if not allocated:
            # Less than one row each: sources with the highest weight first.
            for i in sorted(open_, key=lambda i: -weights[i])[:left]:
                shares[i] += 1
                allocated += 1
        left -= allocated
    return shares


def apply_weight(
    rows: Indices, documents: Indices, weight: float, rng: np.random.Generator
) -> Indices:
    """Return the rows of a source, repeated by its weight.

    Args:
        rows: Indices of the rows.
        documents: Document of every row of the source.
        weight: Repetitions of each row; a fraction is drawn as complete documents.
        rng: Random generator.
    """
    times, fraction = int(weight), weight % 1
    parts = [rows] * times
    if fraction:
        unique = np.unique(documents[rows])
        drawn = rng.permutation(unique)[: round(fraction * len(unique))]
        parts.append(rows[np.isin(documents[rows], drawn)])
    return np.concatenate(parts) if parts else rows[:0]


def draw_replay(lengths: Indices, tokens: int, rng: np.random.Generator) -> tuple[Indices, int]:
    """Draw rows of general text until they hold `tokens` tokens.

    Args:
        lengths: Tokens of each row.
        tokens: Number of tokens to draw.
        rng: Random generator; no row repeats before all have been drawn.

    Returns:
        Indices of the rows, and the number of passes over the set.
    """
    drawn = [np.zeros(0, dtype=np.int64)]
    rounds = total = 0
    while total < tokens:
        order = rng.permutation(len(lengths))
        running = total + np.cumsum(lengths[order])
        count = min(int(np.searchsorted(running, tokens)) + 1, len(order))
        last = int(running[count - 1])
        # Leave the last row out if the total is closer to `tokens` without it.
        over = last - tokens
        if total and over > tokens - (last - int(lengths[order[count - 1]])):
            count -= 1
        drawn.append(order[:count])
        rounds += 1
        if last >= tokens:
            break
        total = last
    return np.concatenate(drawn), rounds
