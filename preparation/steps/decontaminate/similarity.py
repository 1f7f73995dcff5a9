"""Similarity of texts to benchmark questions, which finds items that are said in other words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

_NUMBER_WEIGHT = 0.9
"""Weight of the overlap of numbers next to that of words; rephrasing keeps the numbers."""
_NO_NUMBERS = 0.155
"""Overlap of two texts without numbers: at the default similarity of 1.09 their words must agree
to 0.95, because many questions of one benchmark differ in a name only."""
_ONE_NUMBER = 0.5
"""Greatest overlap of texts with a single number: two questions about one year share it."""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*|[a-z]+")
_COUNTING = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
_NUMBER_WORDS = {word: str(value) for value, word in enumerate(_COUNTING)} | {
    "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80",
    "ninety": "90", "hundred": "100", "thousand": "1000", "dozen": "12", "once": "1",
    "single": "1", "twice": "2", "double": "2", "thrice": "3", "triple": "3", "half": "1/2",
    "third": "1/3", "quarter": "1/4",
}  # fmt: skip


class Match(NamedTuple):
    """Nearest question of a text.

    Attributes:
        item: Number of the question.
        score: Similarity: 0 to 1 for the words, and up to 0.9 more for the numbers.
    """

    item: int
    score: float


class SimilarityIndex:
    """TF-IDF vectors (words and word pairs, and 3- to 5-grams of characters) and numbers.

    Args:
        questions: Questions of the benchmark, at least one with a word.
    """

    def __init__(self, questions: Sequence[str]):
        import numpy as np
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+", dtype=np.float32
        )
        characters = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, dtype=np.float32
        )
        self._vectorizers = (words, characters)
        self._vectors = [each.fit_transform(questions).T.tocsr() for each in self._vectorizers]
        counted = [set(_numbers(text)) for text in questions]
        frequency = Counter(number for found in counted for number in found)
        self._columns = {number: column for column, number in enumerate(sorted(frequency))}
        self._weights = {
            number: math.log((1 + len(questions)) / (1 + count)) + 1
            for number, count in frequency.items()
        }
        self._unknown_weight = math.log(1 + len(questions)) + 1
        self._numbers = self._matrix(counted, weighted=False).T.tocsr()
        self._sums = [self._sum(found) for found in counted]
        self._several = np.array([len(found) > 1 for found in counted])[None, :]

    def nearest(self, texts: Sequence[str]) -> list[Match]:
        """Return the nearest question of each text."""
        import numpy as np

        scores = sum(
            0.5 * (each.transform(texts) @ vectors).toarray()
            for each, vectors in zip(self._vectorizers, self._vectors, strict=True)
        )
        scores = scores + _NUMBER_WEIGHT * self._number_overlap(texts)
        best = np.argmax(scores, axis=1)
        return [Match(int(item), float(scores[row, item])) for row, item in enumerate(best)]

    def _number_overlap(self, texts: Sequence[str]) -> Any:
        """Return the Jaccard similarity of the numbers, weighted by their rarity."""
        import numpy as np

        counted = [set(_numbers(text)) for text in texts]
        shared = (self._matrix(counted, weighted=True) @ self._numbers).toarray()
        own = np.array([self._sum(found) for found in counted])[:, None]
        union = own + np.array(self._sums)[None, :] - shared
        overlap = np.divide(shared, union, out=np.full_like(shared, _NO_NUMBERS), where=union > 0)
        several = np.array([len(found) > 1 for found in counted])[:, None] & self._several
        return np.where(several, overlap, np.minimum(overlap, _ONE_NUMBER))

    def _sum(self, numbers: Iterable[tuple[str, int]]) -> float:
        return sum(self._weights.get(number, self._unknown_weight) for number in sorted(numbers))

    def _matrix(self, counted: Sequence[set[tuple[str, int]]], weighted: bool) -> Any:
        from scipy.sparse import csr_matrix

        entries = [
            (row, self._columns[number], self._weights[number] if weighted else 1.0)
            for row, found in enumerate(counted)
            for number in found
            if number in self._columns
        ]
        rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        shape = (len(counted), max(1, len(self._columns)))
        return csr_matrix((values, (rows, columns)), shape=shape, dtype="float64")


def _numbers(text: str) -> list[tuple[str, int]]:
    """Return the numbers of a text with the count of earlier equal ones, also those in words."""
    counts: Counter[str] = Counter()
    numbers = []
    for found in _NUMBER.findall(text.lower()):
        number = _NUMBER_WORDS.get(found, "")
        if found[0].isdigit():
            number = found.replace(",", "")
            number = number.rstrip("0").rstrip(".") if "." in number else number
        if number:
            numbers.append((number, counts[number]))
            counts[number] += 1
    return numbers
