"""Words of a text and their features, as the recognizer reads them."""

from __future__ import annotations

import re
from zlib import crc32

TOKEN = re.compile(r"[^\W_]+|[^\w\s]|_|\s*\n\s*")
"""A run of letters and digits, one sign, or a line break with the white space around it."""

ROWS = (32768, 32768, 8192, 8192, 1024)
"""Rows of the embedding tables: the word twice, its first and last letters, its shape."""

_DIGIT = re.compile(r"\d")
_LONG_RUN = re.compile(r"(.)\1{4,}")


def token_spans(text: str) -> list[tuple[int, int]]:
    """Return the start and end of each token."""
    return [match.span() for match in TOKEN.finditer(text)]


def feature_rows(word: str) -> tuple[int, ...]:
    """Return the row of a token in each embedding table.

    A word has two rows in tables of the same size, so that words that share one row differ in
    the other. Hashes are CRC-32: the same in every process.
    """
    if "\n" in word:
        word = "\n"
    lower = _DIGIT.sub("0", word.lower())
    features = ("a" + lower, "b" + lower, "p" + lower[:3], "s" + lower[-3:], "h" + _shape(word))
    return tuple(
        crc32(feature.encode("utf-8", "replace")) % rows
        for feature, rows in zip(features, ROWS, strict=True)
    )


def _shape(word: str) -> str:
    """Return the word with letters and digits by class: `Main4` is `Xxxxd`."""
    signs = "".join(
        "d" if sign.isdigit() else "X" if sign.isupper() else "x" if sign.isalpha() else sign
        for sign in word[:24]
    )
    if signs.strip("d") == "":
        return f"d{min(len(word), 20)}"
    return _LONG_RUN.sub(lambda run: run.group(1) * 4, signs)
