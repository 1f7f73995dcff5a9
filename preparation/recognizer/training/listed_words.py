"""Words of the recognizer's lists: names and places of Faker, words of ordinary text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from preparation.recognizer.training.values import Values
from preparation.recognizer.word_lists import WordLists

_WORD = re.compile(r"[^\W\d_]{2,}")
_FEW, _MANY = 2, 25
"""Least times that an ordinary and a frequent word are written in small letters."""


def given_names(values: Values) -> frozenset[str]:
    """Return the given names of all locales."""
    return frozenset(name for names in values.names[0] for name in names)


def listed_words(values: Values, small_words: Counter[str]) -> WordLists:
    """Return the lists of words.

    Args:
        values: Source of names and places.
        small_words: How often a word is written in small letters in ordinary text.
    """
    given, family = values.names
    streets = (values.words[f"street_{part}"] for part in ("starts", "ends", "last_words"))
    places = Counter(word for place in values.places() for word in _WORD.findall(place))
    return WordLists.from_words(
        {
            "given": _words(name for names in given for name in names),
            "family": _words(name for names in family for name in names),
            "place": {word for word in places if word[0].isupper()},
            "street": _words(word for part in streets for word in part),
            "word": {word for word, count in small_words.items() if count >= _FEW},
            "frequent": {word for word, count in small_words.items() if count >= _MANY},
        }
    )


def _words(phrases: Iterable[str]) -> set[str]:
    return {word for phrase in phrases for word in _WORD.findall(phrase)}
