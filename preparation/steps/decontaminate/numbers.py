"""Numbers of a text, in digits and in words, which a rephrased question keeps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

_TOKEN = re.compile(r"\d+/\d+|\d+(?:[.,]\d+)*|[a-z]+")
_COUNTING = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
_DIGITS = {word: str(value) for value, word in enumerate(_COUNTING)}
_WORDS = _DIGITS | {
    "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80",
    "ninety": "90", "hundred": "100", "thousand": "1000", "dozen": "12", "decade": "10",
    "single": "1", "once": "1", "pair": "2", "twice": "2", "double": "2", "thrice": "3",
    "triple": "3", "half": "1/2", "third": "1/3", "quarter": "1/4",
}  # fmt: skip
_ORDINALS = ("third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_PARTS = (
    {word: place for place, word in enumerate(_ORDINALS, start=3)}
    | {f"{word}s": place for place, word in enumerate(_ORDINALS, start=3)}
    | {"quarter": 4, "quarters": 4, "halves": 2}
)
"""Denominators. Those after `third` are ordinal numbers unless a number or `a` stands before."""


Numbers: TypeAlias = frozenset[tuple[str, int]]
"""Numbers of a text, each with the count of earlier equal ones."""
_MIN_SHARE = 0.34


def has_numbers(own: Numbers, wanted: Numbers) -> bool:
    """Return whether a text has at least a third of the numbers of another one.

    The same exercise with other numbers is another one.

    Args:
        own: Numbers of the text.
        wanted: Those of the other.
    """
    return len(wanted) < 2 or len(wanted & own) >= _MIN_SHARE * len(wanted)


def numbers(text: str) -> list[tuple[str, int]]:
    """Return the numbers of a text, each with the count of earlier equal ones."""
    counts: Counter[str] = Counter()
    counted = []
    for number in _values(_TOKEN.findall(text.lower())):
        counted.append((number, counts[number]))
        counts[number] += 1
    return counted


def _values(tokens: list[str]) -> Iterator[str]:
    """Yield numbers as digits, and fractions as `2/5`, also for `two-fifths` and `a tenth`."""
    follower = iter((*tokens[1:], ""))
    pending = iter(tokens)
    for token in pending:
        after = next(follower)
        if after in _PARTS and (token == "a" or token in _DIGITS):
            yield f"{_DIGITS.get(token, '1')}/{_PARTS[after]}"
            next(pending), next(follower)
        elif not token[0].isdigit():
            if token in _WORDS:
                yield _WORDS[token]
        elif "/" in token:
            yield token
        else:
            value = token.replace(",", "")
            yield value.rstrip("0").rstrip(".") if "." in value else value
