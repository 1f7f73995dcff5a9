"""ROUGE-L: F-measure of the longest common subsequence of words."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Return the lower-case words of a text.

    Of English text these are the tokens of the package rouge-score without stemming; other scripts
    have words here too.
    """
    return _WORD.findall(text.lower().replace("_", " "))


def rouge_l(first: list[str], second: list[str]) -> float:
    """Return the F-measure of ROUGE-L of two lists of words, from 0 to 1."""
    if not first or not second:
        return 0.0
    return 2 * lcs_length(first, second) / (len(first) + len(second))


def lcs_length(first: list[str], second: list[str]) -> int:
    """Return the length of the longest common subsequence of two lists of words.

    One bit per word of `first` is updated for each word of `second`, in place of a table of both
    (Hyyrö 2004, "Bit-parallel LCS-length computation revisited").
    """
    positions: dict[str, int] = {}
    for index, word in enumerate(first):
        positions[word] = positions.get(word, 0) | 1 << index
    mask = (1 << len(first)) - 1
    bits = mask
    for word in second:
        matches = bits & positions.get(word, 0)
        bits = (bits + matches | bits - matches) & mask
    return len(first) - bits.bit_count()


def score(answer: str, reference: str) -> float:
    """Return the F-measure of ROUGE-L (Lin 2004, https://aclanthology.org/W04-1013/)."""
    return rouge_l(words(answer), words(reference))
