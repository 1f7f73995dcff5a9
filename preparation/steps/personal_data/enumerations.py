"""Enumerations of names: if most items are names, all are."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from preparation.recognizer.recognizer import KindSpan

_SEPARATOR = re.compile(r", (?:and |& )?| (?:and|&|or|y|e|und|et|och|og|en|i) ")
_WORD = r"[^\W\d_][\w'’-]*"
_ENUMERATION = re.compile(
    rf"(?<![\w'’-]){_WORD}(?: {_WORD})?(?:(?:{_SEPARATOR.pattern}){_WORD}(?: {_WORD})?){{2,}}"
)
_NAMED_SHARE = 0.6


def complete_enumerations(text: str, spans: Sequence[KindSpan]) -> list[KindSpan]:
    """Add the items of enumerations that are not found, if most of the others are names.

    An item is a word or two that begin with capitals: `Malon` in `Malon, Anna and Bob Lee`.

    Args:
        text: The text.
        spans: Spans of the text, in order and without overlaps.
    """
    if sum(span.kind == "person" for span in spans) < 2:
        return list(spans)
    added = [new for match in _ENUMERATION.finditer(text) for new in _missing(match, spans)]
    return sorted([*spans, *added])


def _missing(match: re.Match[str], spans: Sequence[KindSpan]) -> Iterator[KindSpan]:
    items: list[KindSpan] = []
    start = match.start()
    for separator in [*_SEPARATOR.finditer(match.string, *match.span()), None]:
        end = separator.start() if separator else match.end()
        items.append(KindSpan(start, end, "person"))
        start = separator.end() if separator else end
    overlapping = [_overlapping(item, spans) for item in items]
    names = sum(span is not None and span.kind == "person" for span in overlapping)
    if names < max(2, _NAMED_SHARE * len(items)):
        return
    for item, span in zip(items, overlapping, strict=True):
        words = match.string[item.start : item.end].split(" ")
        if span is None and all(word[0].isupper() for word in words):
            yield item


def _overlapping(item: KindSpan, spans: Sequence[KindSpan]) -> KindSpan | None:
    """Return the last span that overlaps an item; spans are in order and do not overlap."""
    place = bisect_left(spans, item.end, key=lambda span: span.start) - 1
    return spans[place] if place >= 0 and spans[place].end > item.start else None
