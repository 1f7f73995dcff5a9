"""Rows that a text longer than `data.max_length` is cut into."""

from __future__ import annotations

import math


def window_lengths(tokens: float, max_length: int, overlap: int) -> list[float]:
    """Return the tokens of each row of a text.

    Args:
        tokens: Tokens of the text.
        max_length: Maximum tokens of a row.
        overlap: Tokens that a row repeats from the one before; fewer than `max_length`.
    """
    step = max_length - overlap
    full = max(0, math.ceil((tokens - max_length) / step))
    return [float(max_length)] * full + [tokens - full * step]
