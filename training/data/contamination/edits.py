"""Search for short questions of which some words were changed.

A question of a few words has no run of eight words that survives an edit. A passage is compared
with it word by word, each weighted by its rarity among the items: the weight of the words that both
have, less that of words which only the passage has. Another question of the same pattern ("What are
the symptoms of …?") lacks the rare words, and has others.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LENGTHS = range(4, 41)
"""Words of an item that is searched for; of longer ones n-grams find edited copies."""
PASSAGE_LENGTHS = range(3, 63)
THRESHOLD = 0.55
"""Least score of an edited copy, chosen on one half of MMLU, TruthfulQA and BANKING77."""
_MIN_WEIGHT = 0.15
_FUNCTION_WEIGHT = 0.35
_FUNCTION_TEXT = """
a an the of in on at to for from by with about as and or but nor not no if then than that this these
those it its is are was were be been being am do does did done have has had having will would shall
should can could may might must what which who whom whose when where why how there here i you he she
we they me him her us them my your his our their so such into over under between during following
"""
_FUNCTION_WORDS = frozenset(_FUNCTION_TEXT.split())
"""English words without content, which weigh less; in a small benchmark all words are rare."""
_MIN_TOTAL = 1.5
"""Least weight of an item: "Which of the following is true?" is no question by itself."""
_LIGHT_CONTENT = 0.6
_LIGHT_THRESHOLD = 0.85
"""Least weight of the words with content in a lighter item, and least score of its copy."""
_ALIKE_SHARE = 0.01
"""Share of the items that may be taken for edited copies of other items. In a benchmark whose
questions differ in a word or two, a match that is no closer than that is not sure."""
_MARGIN = 0.03
_SAME_PLACES = 0.6
_COMPARED_ITEMS = 1_000
_COMMON_SHARE = 0.1
_COMMON_ITEMS = 50
"""A word of more items than both is not looked up: it is in most passages."""
_MISSPELLED_SHARE = 0.15
"""Share of an item's weight that misspelled words may have, which are not found by look-up."""


class EditMatch(NamedTuple):
    """Item of which a passage may be an edited copy.

    Attributes:
        item: Number of the item.
        score: From `THRESHOLD` to 1: share of the item's weight in the passage, less the weight of
            words that only the passage has.
        sure: False if other items of the benchmark are as close to each other: the passage may be
            another question, unless the answer stands with it.
        kind: How the passage differs from the item.
    """

    item: int
    score: float
    sure: bool
    kind: Difference


class Difference(NamedTuple):
    """Kind of a difference between a passage and an item.

    Attributes:
        has_new_words: True if the passage has words that are not the item's, also misspelled.
        in_place: True if both have as many words, most of them at the same places.
    """

    has_new_words: bool
    in_place: bool


class EditIndex:
    """Words of short items, by their weight.

    Args:
        items: Words of each item, in lower case.
    """

    def __init__(self, items: Sequence[Sequence[str]]):
        self._sequences = [words if len(words) in LENGTHS else () for words in items]
        self._items = [Counter(words) for words in self._sequences]
        self._frequency = Counter(word for words in items for word in set(words))
        self._log_size = math.log(1 + len(items))
        self._weights = {word: self._weigh(count, word) for word, count in self._frequency.items()}
        self._unknown = self._weigh(0, "")
        self._totals = [self._sum(words) for words in self._items]
        self._index_words()
        self._sure_from = dict.fromkeys(_DIFFERENCES, 0.0)
        self._sure_from = self._closest_items()

    def find(self, passage: Sequence[str]) -> list[EditMatch]:
        """Return the items of which a passage may be an edited copy, best first.

        Args:
            passage: Words of the passage, in lower case.
        """
        counted = Counter(passage)
        matches = []
        for number in self._candidates(counted):
            score, has_new_words = self._score(number, counted)
            if self._is_close(number, score, has_new_words):
                kind = Difference(has_new_words, _in_place(passage, self._sequences[number]))
                matches.append(EditMatch(number, score, score > self._sure_from[kind], kind))
        return sorted(matches, key=lambda match: (-match.score, match.item))

    def _is_close(self, number: int, score: float, has_new_words: bool) -> bool:
        """Return whether a passage may be a copy; one of a light item has only words of it."""
        if self._totals[number] < _MIN_TOTAL:
            return score >= _LIGHT_THRESHOLD and not has_new_words
        return score >= THRESHOLD

    def _index_words(self) -> None:
        """Store the items and weights of each word, and what an edited copy must have of them."""
        most = max(_COMMON_ITEMS, round(_COMMON_SHARE * len(self._items)))
        places: dict[str, list[tuple[int, float]]] = defaultdict(list)
        common = np.zeros(len(self._items))
        for number, words in enumerate(self._items):
            for word, count in words.items():
                weight = count * self._weights[word]
                if self._frequency[word] <= most:
                    places[word].append((number, weight))
                else:
                    common[number] += weight
        self._places = {
            word: (np.array([n for n, _ in found]), np.array([w for _, w in found]))
            for word, found in places.items()
        }
        totals = np.array(self._totals)
        needed = (THRESHOLD - _MISSPELLED_SHARE) * totals - common
        content = np.array([self._sum(self._content(words)) for words in self._items])
        searched = (totals >= _MIN_TOTAL) | (content >= _LIGHT_CONTENT)
        self._needed = np.where(searched, np.maximum(needed, 1e-9), np.inf)
        lengths = np.array([words.total() for words in self._items])
        self._shortest, self._longest = 0.7 * lengths, 1.5 * lengths + 2

    def _candidates(self, passage: Counter[str]) -> list[int]:
        """Return the items that share enough weight with a passage, and are about as long."""
        places = [self._places[word] for word in passage if word in self._places]
        if not places:
            return []
        shared = np.zeros(len(self._items))
        for numbers, weights in places:
            shared[numbers] += weights
        length = passage.total()
        fits = (shared >= self._needed) & (self._shortest <= length) & (length <= self._longest)
        return [int(number) for number in np.flatnonzero(fits)]

    def _closest_items(self) -> dict[Difference, float]:
        """Return the score that few items exceed with another item of the benchmark.

        Each kind of difference is counted apart: the words of a question are seldom all in another
        one, and at the same places.
        """
        own = [words for words in self._sequences if words]
        sample = own[:: max(1, len(own) // _COMPARED_ITEMS)]
        closest: dict[Difference, list[float]] = {kind: [] for kind in _DIFFERENCES}
        for words in sample:
            scores = dict.fromkeys(_DIFFERENCES, 0.0)
            counted = Counter(words)
            for match in self.find(words):
                if self._items[match.item] != counted:
                    scores[match.kind] = max(scores[match.kind], match.score)
            for kind, score in scores.items():
                closest[kind].append(score)
        allowed = int(_ALIKE_SHARE * len(sample))
        return {
            kind: min(1 - 1e-9, sorted(scores, reverse=True)[allowed] + _MARGIN) if scores else 0.0
            for kind, scores in closest.items()
        }

    def _score(self, number: int, passage: Counter[str]) -> tuple[float, bool]:
        """Return the score of an item, and whether the passage has words that it lacks."""
        item = self._items[number]
        rest = item - passage
        extra = [word for word in passage if word not in item]
        missing = self._sum(rest)
        new = sum(self._weights.get(word, self._unknown) for word in extra)
        if new - missing > (1 - THRESHOLD) * self._totals[number]:
            return 0.0, True  # even if each missing word is only misspelled
        differing, unknown = missing + new, len(extra)
        for word in extra:
            meant = next((other for other in rest if rest[other] and _alike(word, other)), None)
            if meant is not None:
                rest[meant] -= 1
                unknown -= 1
                differing -= self._weights[meant] + self._weights.get(word, self._unknown)
        return 1 - differing / self._totals[number], unknown > 0

    def _sum(self, words: Counter[str]) -> float:
        return sum(count * self._weights[word] for word, count in words.items())

    def _weigh(self, frequency: int, word: str) -> float:
        rarity = max(0.0, 1 - math.log(1 + frequency) / self._log_size) if self._log_size else 1.0
        weight = _MIN_WEIGHT + (1 - _MIN_WEIGHT) * rarity
        return weight if self._has_content(word) else _FUNCTION_WEIGHT * weight

    @staticmethod
    def _has_content(word: str) -> bool:
        return word not in _FUNCTION_WORDS

    @classmethod
    def _content(cls, words: Counter[str]) -> Counter[str]:
        return Counter({word: count for word, count in words.items() if cls._has_content(word)})


_DIFFERENCES = tuple(Difference(new, place) for new in (False, True) for place in (False, True))


def _in_place(passage: Sequence[str], item: Sequence[str]) -> bool:
    """Return True if words were replaced in an item, and none moved, added or left out."""
    if len(passage) != len(item):
        return False
    same = sum(one == other for one, other in zip(passage, item, strict=True))
    return same >= _SAME_PLACES * len(item)


def _alike(word: str, other: str) -> bool:
    """Return True if one letter was changed, left out, added or exchanged with the next."""
    if len(word) > len(other):
        word, other = other, word
    if len(word) < 4 or len(other) - len(word) > 1 or not (word.isalpha() and other.isalpha()):
        return False
    start = 0
    while start < len(word) and word[start] == other[start]:
        start += 1
    if len(word) < len(other):
        return word[start:] == other[start + 1 :]
    exchanged = word[start + 1 : start + 2] + word[start : start + 1]
    return word[start + 1 :] == other[start + 1 :] or (
        exchanged == other[start : start + 2] and word[start + 2 :] == other[start + 2 :]
    )
