"""Measures of texts that need no model: what a compressor makes of them, and their words."""

from __future__ import annotations

import bz2
import lzma
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from validation.strict_yaml import load_yaml

_REFERENCE = Path(__file__).with_name("reference_text.yaml")
_COMPRESSED_BYTES = 1 << 18
_LEAST_BITS = 1.5
"""Bits per byte below which texts repeat a form, such as JSON with the same keys, which a
compressor sees across rows and a model that reads one row does not. English prose has 2 or more."""
_WORD = re.compile(r"\w+|[^\w\s]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def compressed_bits_per_byte(texts: Sequence[str]) -> float:
    """Return the bits per byte of texts under the better of two general-purpose compressors."""
    data = "\n".join(texts).encode()[:_COMPRESSED_BYTES]
    if not data:
        return 0.0
    packed = min(len(bz2.compress(data)), len(lzma.compress(data, format=lzma.FORMAT_ALONE)))
    return max(_LEAST_BITS, 8 * packed / len(data))


def distinct_sentences(texts: Sequence[str]) -> list[str]:
    """Return the texts without sentences that an earlier text has; texts of which none is left go.

    A compressor would store the system message of a thousand conversations once, while a model
    that reads them one by one predicts it a thousand times.
    """
    seen: set[str] = set()
    kept = []
    for text in texts:
        sentences = [part for part in _SENTENCE_END.split(text) if part.strip()]
        new = [part for part in sentences if part not in seen]
        seen.update(new)
        if new:
            kept.append("\n".join(new))
    return kept


def count_words(text: str) -> int:
    """Return the number of words and punctuation marks of a text."""
    return len(_WORD.findall(text))


@cache
def reference_text() -> str:
    """Return the plain English to which tokens per word are compared."""
    return str(load_yaml(_REFERENCE.read_text("utf-8"))["text"])
