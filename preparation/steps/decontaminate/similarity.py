"""Similarity of texts to benchmark questions, which finds items that are said in other words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from preparation.steps.decontaminate.numbers import numbers

_Value = TypeVar("_Value", str, tuple[str, int])

_NUMBER_WEIGHT = 0.9
"""Weight of the overlap of numbers next to that of words; rephrasing keeps the numbers."""
_NO_NUMBERS = 0.178
"""Overlap of two texts without numbers: at the default similarity of 1.11 their words must agree
to 0.95, because many questions of one benchmark differ in a name only."""
_GREATEST_OVERLAPS = (1.0, 0.5, 0.8, 0.9, 1.0)
"""Greatest overlap of texts of which one has so many numbers: two questions about one year share
it."""
_NAME_WEIGHT = 0.3
"""Weight of the names of a question; rephrasing keeps them, and another problem with the same
numbers has others. It counts if both texts have numbers."""
_NO_NAMES = 0.5
_NAME = re.compile(r"[^\W\d_]+")


class Match(NamedTuple):
    """Nearest question of a text.

    Attributes:
        item: Number of the question.
        score: Similarity: 0 to 1 for the words, up to 0.9 more for the numbers, and 0.15 more or
            less for the names.
    """

    item: int
    score: float


class SimilarityIndex:
    """TF-IDF vectors (words and word pairs, and 3- to 5-grams of characters), numbers and names.

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
        counted = [set(numbers(text)) for text in questions]
        self._numbers = _RareValues(counted)
        self._counts = np.array([[len(found) for found in counted]])
        self._names = _RareValues(_names(questions))

    def nearest(self, texts: Sequence[str]) -> list[Match]:
        """Return the nearest question of each text."""
        import numpy as np

        scores = sum(
            0.5 * (each.transform(texts) @ vectors).toarray()
            for each, vectors in zip(self._vectorizers, self._vectors, strict=True)
        )
        counted = [set(numbers(text)) for text in texts]
        scores = scores + _NUMBER_WEIGHT * self._number_overlap(counted)
        both = np.array([[len(found) > 0] for found in counted]) & (self._counts > 0)
        shared, sums = self._names.shared([_capitalized(text) for text in texts]), self._names.sums
        share = np.divide(shared, sums, out=np.full_like(shared, _NO_NAMES), where=sums > 0)
        scores = scores + np.where(both, _NAME_WEIGHT * (share - _NO_NAMES), 0.0)
        best = np.argmax(scores, axis=1)
        return [Match(int(item), float(scores[row, item])) for row, item in enumerate(best)]

    def _number_overlap(self, counted: Sequence[set[tuple[str, int]]]) -> Any:
        """Return the Jaccard similarity of the numbers, weighted by their rarity."""
        import numpy as np

        shared = self._numbers.shared(counted)
        own = np.array([self._numbers.weight(found) for found in counted])[:, None]
        union = own + self._numbers.sums - shared
        overlap = np.divide(shared, union, out=np.full_like(shared, _NO_NUMBERS), where=union > 0)
        fewer = np.minimum(np.array([[len(found)] for found in counted]), self._counts)
        most = np.array(_GREATEST_OVERLAPS)[np.minimum(fewer, len(_GREATEST_OVERLAPS) - 1)]
        return np.minimum(overlap, most)


class _RareValues(Generic[_Value]):
    """Values of the questions, such as numbers, weighted by their rarity.

    Args:
        of_questions: The values of each question.

    Attributes:
        sums: Weight of the values of each question, shape (1, questions).
    """

    def __init__(self, of_questions: Sequence[set[_Value]]):
        import numpy as np

        count = len(of_questions)
        frequency = Counter(value for values in of_questions for value in values)
        self._columns: dict[_Value, int] = {
            value: column for column, value in enumerate(sorted(frequency))
        }
        self._weights: dict[_Value, float] = {
            value: math.log((1 + count) / (1 + n)) + 1 for value, n in frequency.items()
        }
        self._unknown_weight = math.log(1 + count) + 1
        self._vectors = self._matrix(of_questions, weighted=False).T.tocsr()
        self.sums = np.array([self.weight(values) for values in of_questions])[None, :]

    def weight(self, values: Iterable[_Value]) -> float:
        """Return the weight of values, also of those that no question has."""
        return sum(self._weights.get(value, self._unknown_weight) for value in sorted(values))

    def shared(self, of_texts: Sequence[set[_Value]]) -> Any:
        """Return the weight of the values that texts share with questions."""
        return (self._matrix(of_texts, weighted=True) @ self._vectors).toarray()

    def _matrix(self, rows: Sequence[set[_Value]], weighted: bool) -> Any:
        from scipy.sparse import csr_matrix

        entries = [
            (row, self._columns[value], self._weights[value] if weighted else 1.0)
            for row, values in enumerate(rows)
            for value in values
            if value in self._columns
        ]
        at, columns, weights = zip(*entries, strict=True) if entries else ((), (), ())
        shape = (len(rows), max(1, len(self._columns)))
        return csr_matrix((weights, (at, columns)), shape=shape, dtype="float64")


def _capitalized(text: str) -> set[str]:
    return {word for word in _NAME.findall(text) if word[0].isupper()}


def _names(questions: Sequence[str]) -> list[set[str]]:
    """Return the words of each question that are capitalized wherever the questions have them."""
    ordinary = {word for text in questions for word in _NAME.findall(text) if word[0].islower()}
    return [
        {word for word in _capitalized(text) if word.lower() not in ordinary} for text in questions
    ]
