"""Answer of an item among the texts of a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

_MIN_WORDS = 3
"""An answer of fewer words stands in many rows."""
_MIN_SHARE = 0.8


def holds_answer(texts: Sequence[Sequence[str]], answer: Sequence[str]) -> bool:
    """Return True if a text has most words of an answer of several words.

    Args:
        texts: Words of each text of a row.
        answer: Words of the answer.
    """
    if len(answer) < _MIN_WORDS:
        return False
    wanted = Counter(answer)
    return any(
        (wanted & Counter(text)).total() >= _MIN_SHARE * len(answer)
        for text in texts
        if len(text) >= _MIN_SHARE * len(answer)
    )
