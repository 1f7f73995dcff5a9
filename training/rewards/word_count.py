"""Word splitting that also counts words in scripts without spaces."""

from __future__ import annotations

import re

# Kana, Chinese characters, Thai, Lao, Khmer and Burmese: each character counts as a word.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_WORD = re.compile(rf"[{_UNSPACED}][\u0300-\u036f]*|[^\s{_UNSPACED}]+")


def split_words(text: str) -> list[str]:
    """Return the words of a text; in scripts without spaces, each character is a word."""
    return _WORD.findall(text)
