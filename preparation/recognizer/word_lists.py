"""Lists of names, places and ordinary words, as features of the recognizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

WordList: TypeAlias = Literal["given", "family", "place", "street", "word", "frequent"]
WORD_LISTS: tuple[WordList, ...] = get_args(WordList)
"""Given and family names, words of places and of streets, words that are written in small letters,
and the frequent ones of these."""

COMBINATIONS: int = 2 ** len(WORD_LISTS)
"""Number of sets of lists that a word can be in."""


class WordLists:
    """Lists that a word is in, as one number; words are kept as hashes of 32 bits.

    Args:
        hashes: Hashes of the words, in order.
        bits: Lists of each word, a bit per list in the order of `WORD_LISTS`.
    """

    def __init__(self, hashes: NDArray[np.uint32], bits: NDArray[np.uint8]):
        self.hashes = hashes
        self.bits = bits

    @classmethod
    def from_words(cls, words: Mapping[WordList, set[str]]) -> WordLists:
        """Return the lists of some words."""
        bits: dict[int, int] = {}
        for index, name in enumerate(WORD_LISTS):
            for word in words.get(name, ()):
                key = _hash(word)
                bits[key] = bits.get(key, 0) | 1 << index
        hashes = np.array(sorted(bits), np.uint32)
        return cls(hashes, np.array([bits[int(key)] for key in hashes], np.uint8))

    def combination(self, word: str) -> int:
        """Return the lists that a word is in, as a number below `COMBINATIONS`."""
        if not len(self.hashes):
            return 0
        key = _hash(word)
        place = int(np.searchsorted(self.hashes, np.uint32(key)))
        return (
            int(self.bits[place]) if place < len(self.hashes) and self.hashes[place] == key else 0
        )


def _hash(word: str) -> int:
    return crc32(word.lower().encode("utf-8", "replace"))
