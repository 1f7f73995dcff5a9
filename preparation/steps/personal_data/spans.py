"""Spans of a row: patterns and recognizer together, parts of an address joined, names repeated."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from preparation.recognizer.recognizer import KindSpan
from preparation.steps.personal_data.enumerations import complete_enumerations
from preparation.steps.personal_data.patterns import KINDS_BY_PATTERN, without_overlaps
from preparation.steps.personal_data.titles import TITLE, TITLE_BEFORE

_ADDRESS_PARTS = frozenset(("address", "zip_code", "location"))
_BETWEEN_PARTS = re.compile(r"[\s,;>*|?.-]{0,16}")
_URL = re.compile(
    r"(?:https?://|www\.)[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]|[\w.-]+\.[a-z]{2,}\S*", re.I
)
_POSSESSIVE = re.compile(r"['’]s?$")
_HYPHEN_AFTER = re.compile(r"-[^\W\d_]+")
_HYPHEN_BEFORE = re.compile(r"(?<!\w)[^\W\d_]+-\Z")
_NAME_WORD = re.compile(r"[^\W\d_]{3,}")
_WORD = re.compile(r"\w+")
_ORDINARY = """
van von der del las los bin the and for may will hope mark rose grace faith april june august
summer autumn pat bill rob sue jack art ray dean king young long white black brown green day
church page price rich best case gray grey good little small short sharp wise stone street wood
woods field fields hill hills lake rivers park parks bush bell ball banks bird fish fox wolf
baker cook carpenter mason miller smith taylor turner walker weaver potter porter butler carter
fisher gardener hunter shepherd judge major bishop pope abbott monk christian jordan chase drew
joy dawn ruby jade amber crystal iris lily ivy olive daisy violet heather melody harmony destiny
journey genesis heaven paris london madrid sofia florence austin charlotte chelsea brooklyn
savannah israel santiago valencia washington lincoln jackson franklin constant victor justice
honor earnest frank gene norm tuesday sunday monday friday
"""
_ALSO_WORDS = frozenset(_ORDINARY.split())
"""Words that are names as well: a name of one word is not repeated from these alone."""


def merge(
    text: str, patterns: Sequence[KindSpan], recognized: Sequence[KindSpan]
) -> list[KindSpan]:
    """Return the spans of a text without overlaps, in order.

    Args:
        text: The text.
        patterns: Spans of fixed form; those with a checksum or an unmistakable form come first.
        recognized: Spans of the recognizer.
    """
    sure = [span for span in patterns if span.kind in KINDS_BY_PATTERN]
    others = [span for span in patterns if span.kind not in KINDS_BY_PATTERN]
    widened = [_widened(text, span) for span in recognized]
    rest = sorted([*others, *widened], key=lambda span: (span.start - span.end, span.start))
    joined = join_addresses(text, without_overlaps([*sure, *rest]))
    return complete_enumerations(text, joined)


def _widened(text: str, span: KindSpan) -> KindSpan:
    """Return a name with its title, and a web address to its end."""
    if span.kind == "person":
        title = TITLE.search(text, max(0, span.start - 16), span.start)
        end = span.end - len(found.group()) if (found := _possessive(text, span)) else span.end
        start, end = _with_hyphens(text, span.start, end)
        return KindSpan(title.start() if title else start, end, "person")
    if span.kind == "address":
        return KindSpan(*_with_hyphens(text, span.start, span.end), "address")
    if span.kind == "url":
        for match in _URL.finditer(text, max(0, span.start - 12), span.end + 200):
            if match.start() < span.end and span.start < match.end():
                return KindSpan(min(span.start, match.start()), max(span.end, match.end()), "url")
    return span


def _with_hyphens(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a part of a text with the words that hyphens join to its ends: `Saint-Étienne`."""
    while (match := _HYPHEN_AFTER.match(text, end)) and match.group()[1].isupper():
        end = match.end()
    while (match := _HYPHEN_BEFORE.search(text, max(0, start - 24), start)) and (
        match.group()[0].isupper()
    ):
        start = match.start()
    return start, end


def _possessive(text: str, span: KindSpan) -> re.Match[str] | None:
    return _POSSESSIVE.search(text, span.start, span.end)


def join_addresses(text: str, spans: Iterable[KindSpan]) -> list[KindSpan]:
    """Join the parts of an address that only separators divide: street, flat, town, country."""
    joined: list[KindSpan] = []
    for span in spans:
        if joined and _same_address(text, joined[-1], span):
            span = KindSpan(joined.pop().start, span.end, "address")
        joined.append(span)
    return joined


def _same_address(text: str, left: KindSpan, right: KindSpan) -> bool:
    kinds = {left.kind, right.kind}
    if not kinds <= _ADDRESS_PARTS or kinds == {"location"}:
        return False
    return bool(_BETWEEN_PARTS.fullmatch(text, left.end, right.start))


def repeat_names(texts: Sequence[str], spans: Sequence[Sequence[KindSpan]]) -> list[list[KindSpan]]:
    """Find the names of a row in all its texts: a name found once is found where it comes again.

    A full name is found in any case; each of its words alone where it is written with a capital
    and is not an ordinary word as well.

    Args:
        texts: Texts of a row.
        spans: Spans of each text.
    """
    names = {
        text[span.start : span.end]
        for text, found in zip(texts, spans, strict=True)
        for span in found
        if span.kind == "person"
    }
    forms = _forms_by_first_word(names)
    if not forms:
        return [list(found) for found in spans]
    return [
        without_overlaps([*found, *_repeated(text, forms)])
        for text, found in zip(texts, spans, strict=True)
    ]


def _repeated(text: str, forms: Mapping[str, re.Pattern[str]]) -> Iterator[KindSpan]:
    """Yield the names in a text; each word is looked up, whatever the number of names."""
    position = 0
    for word in _WORD.finditer(text):
        if word.start() < position:
            continue
        form = forms.get(_folded(word.group()))
        if form is not None and (match := form.match(text, word.start())):
            position = match.end()
            yield KindSpan(*match.span(), "person")


def _forms_by_first_word(names: Iterable[str]) -> dict[str, re.Pattern[str]]:
    """Return the pattern of the names that begin with a word, by the word."""
    forms: defaultdict[str, set[str]] = defaultdict(set)
    for name in names:
        bare = TITLE_BEFORE.sub("", name) if " " in name else name
        words = _NAME_WORD.findall(bare)
        if len(words) > 1:
            first = _WORD.search(bare)
            assert first is not None, "a name of two words has a first one"
            whole = bare[first.start() :]
            forms[_folded(first.group())].add(rf"(?i:{re.escape(whole)})")
        for word in words:
            ordinary = word.lower() in _ALSO_WORDS or TITLE.match(word + " ")
            if word[0].isupper() and not ordinary:
                forms[_folded(word)].add(re.escape(word))
    return {word: _any_of(patterns) for word, patterns in forms.items()}


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(patterns, key=lambda form: (-len(form), form))
    return re.compile(rf"(?:{'|'.join(longest_first)})(?!\w)")


def _folded(word: str) -> str:
    """Return a word without case; the dotted and the dotless I are one, as `re` has it."""
    return word.casefold().replace("ı", "i").replace("i̇", "i")
