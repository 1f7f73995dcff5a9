"""Words and shingles of a text, the same for all comparisons of rows."""

from __future__ import annotations

import regex

SHINGLE_WORDS = 5
WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]|[\p{L}\p{M}\p{N}_]+"
)
"""A letter of a script that writes no spaces, or a run of letters, marks and digits."""


def words(text: str) -> list[str]:
    """Return the words of a text, in lower case and without punctuation."""
    found: list[str] = WORD.findall(text.lower())
    return found


def shingles(text: str) -> list[str]:
    """Return the shingles of a text: all runs of five words; a shorter text is one shingle."""
    found = words(text)
    if len(found) <= SHINGLE_WORDS:
        return [" ".join(found)] if found else []
    return [
        " ".join(found[start : start + SHINGLE_WORDS])
        for start in range(len(found) - SHINGLE_WORDS + 1)
    ]
