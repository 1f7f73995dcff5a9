"""Index of the n-grams of benchmark items, which finds copies and light edits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from preparation.steps.decontaminate.items import BenchmarkItem
from preparation.steps.decontaminate.numbers import Numbers, has_numbers, numbers
from preparation.words import words

NGRAM_WORDS = 8
"""Length that Tülu 3 uses (Lambert et al. 2024, https://arxiv.org/abs/2411.15124)."""
_HALF = 0.5
_MIN_HITS = 2
_MIN_SHARE = 0.1
"""Fewer n-grams of a text than both are a phrase that other texts have too."""
_COMMON_ITEMS = 10
"""An n-gram of more items than these is a phrase of the benchmark, not of an item."""


class _IndexedText(NamedTuple):
    item: int
    ngrams: int
    numbers: Numbers


class CopyIndex:
    """N-grams of the questions and answers of benchmark items.

    A text of fewer than eight words has no n-gram: a question of that length must equal a text of
    the row in all words, and such an answer is not searched for.

    Args:
        items: The items.
    """

    def __init__(self, items: Sequence[BenchmarkItem]):
        self._short: dict[tuple[str, ...], int] = {}
        self._texts: list[_IndexedText] = []
        self._of_ngram: dict[int, list[int]] = {}
        for number, item in enumerate(items):
            question = words(item.question)
            if question and len(question) < NGRAM_WORDS:
                self._short.setdefault(tuple(question), number)
            for text in (item.question, item.answer):
                self._add(number, text)
        self._of_ngram = {
            ngram: texts for ngram, texts in self._of_ngram.items() if len(texts) <= _COMMON_ITEMS
        }

    def _add(self, number: int, text: str) -> None:
        ngrams = _ngrams(words(text))
        if not ngrams:
            return
        for ngram in ngrams:
            self._of_ngram.setdefault(ngram, []).append(len(self._texts))
        counted = numbers(text)
        self._texts.append(_IndexedText(number, len(ngrams), frozenset(counted)))

    def find(self, text: str) -> int | None:
        """Return the number of the item of which a text has most, or None if it has of none."""
        found = words(text)
        if len(found) < NGRAM_WORDS:
            return self._short.get(tuple(found))
        hits = Counter(one for ngram in _ngrams(found) for one in self._of_ngram.get(ngram, ()))
        enough = []
        for one, count in hits.items():
            copied = self._texts[one]
            share = count / copied.ngrams
            if share >= _HALF or (count >= _MIN_HITS and share >= _MIN_SHARE):
                enough.append((-share, copied.item, copied.numbers))
        own = frozenset(numbers(text)) if enough else frozenset()
        best = sorted(enough, key=lambda one: one[:2])
        return next((item for _, item, wanted in best if has_numbers(own, wanted)), None)


def _ngrams(found: Sequence[str]) -> set[int]:
    """Return hashes of 64 bits of all n-grams, the same in each process."""
    import xxhash

    return {
        xxhash.xxh3_64_intdigest(" ".join(found[start : start + NGRAM_WORDS]))
        for start in range(len(found) - NGRAM_WORDS + 1)
    }
