"""Training texts of the recognizer: templates filled with made-up values, and other sources."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

from preparation.recognizer.kinds import Kind
from preparation.recognizer.training.values import Values

TEMPLATES = Path(__file__).parent / "templates"

KIND_OF_SLOT: Mapping[str, Kind] = {
    "name": "person",
    "first": "person",
    "last": "person",
    "address": "address",
    "street": "address",
    "building": "address",
    "secondary": "address",
    "city": "location",
    "country": "location",
    "zip": "zip_code",
    "phone": "phone",
    "email": "email",
    "card": "card",
    "iban": "iban",
    "ssn": "ssn",
    "ip": "ip",
    "licence": "driver_license",
    "passport": "passport",
    "id": "id_number",
    "dob": "date_of_birth",
    "date": "date",
    "org": "organization",
    "user": "username",
    "url": "url",
    "age": "age",
    "sex": "sex",
}
"""Slots of other names are filled, too, and carry no kind."""

_SLOT = re.compile(r"\{(\w+)\}")
_CHOICE = re.compile(r"⟨([^⟨⟩]*)⟩")
_NAME_FORMS = (("{first}",), ("{name}",), ("{first}", "{name}"), ("{last}",), ("{first}",))
_PEOPLE = re.compile(r"\{people\}")
_ADDRESS_PARTS = ("address", "zip_code", "location")
_BETWEEN_PARTS = re.compile(r"[\s,;>*|?.-]{0,16}")
_BETWEEN_NAMES = re.compile(r"[ ]{1,2}")


class Span(NamedTuple):
    """Marked part of a text."""

    start: int
    end: int
    kind: Kind


class AnnotatedText(NamedTuple):
    """Text with the personal data in it.

    Attributes:
        text: The text.
        spans: The personal data.
        others: Start and end of what a corpus marks and no kind of this project covers.
    """

    text: str
    spans: tuple[Span, ...]
    others: tuple[tuple[int, int], ...] = ()


def is_for_choice(template: str) -> bool:
    """Return whether a template is kept to choose settings, as one in eight is."""
    return int(sha1(template.encode(), usedforsecurity=False).hexdigest(), 16) % 8 == 0


@cache
def templates(name: str) -> tuple[str, ...]:
    """Return the templates of a file, one a line; a backslash with `n` is a line break."""
    lines = (TEMPLATES / f"{name}.txt").read_text("utf-8").splitlines()
    return tuple(line.replace("\\n", "\n") for line in lines if line and not line.startswith("# "))


def literal_parts(template: str) -> list[str]:
    """Return the parts of a template without choices between its slots."""
    return _SLOT.split(template)[::2]


def expand(template: str, values: Values) -> str:
    """Choose one of the words of each `⟨one|two⟩`, and write `{people}` as a list of names."""
    chosen = _CHOICE.sub(lambda choice: values.one(choice.group(1).split("|")), template)
    return _PEOPLE.sub(lambda _: _people(values), chosen)


def _people(values: Values) -> str:
    slots = values.one(_NAME_FORMS)
    people = [values.one(slots) for _ in range(values.between(2, 7))]
    last = values.one((" and ", " and ", ", and ", " & ", ", ", " und ", " y ", " et "))
    return ", ".join(people[:-1]) + last + people[-1]


def fill(template: str, values: Values) -> AnnotatedText:
    """Fill the slots of a template with values."""
    template = expand(template, values)
    pieces: list[str] = []
    spans: list[Span] = []
    position = length = 0
    for match in _SLOT.finditer(template):
        before = template[position : match.start()]
        value = values.value(match.group(1))
        kind = KIND_OF_SLOT.get(match.group(1))
        if kind in ("person", "location", "address") and values.chance(0.05):
            value = value.lower() if values.chance(0.6) else value.upper()
        pieces += [before, value]
        start = length + len(before)
        length = start + len(value)
        position = match.end()
        if kind:
            spans.append(Span(start, length, kind))
    text = "".join(pieces) + template[position:]
    return AnnotatedText(text, join_parts(text, spans))


def join_parts(text: str, spans: Sequence[Span]) -> tuple[Span, ...]:
    """Join the parts of an address, and first and last names, that only separators divide."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and _belong(text, joined[-1], span):
            last = joined.pop()
            span = Span(last.start, span.end, "person" if span.kind == "person" else "address")
        joined.append(span)
    return tuple(joined)


def _belong(text: str, left: Span, right: Span) -> bool:
    between = text[left.end : right.start]
    if left.kind == right.kind == "person":
        return bool(_BETWEEN_NAMES.fullmatch(between))
    if left.kind not in _ADDRESS_PARTS or right.kind not in _ADDRESS_PARTS:
        return False
    if "address" not in (left.kind, right.kind) and "zip_code" not in (left.kind, right.kind):
        return False
    return bool(_BETWEEN_PARTS.fullmatch(between))


def for_choice(names: Sequence[str], values: Values, texts: int) -> list[AnnotatedText]:
    """Return texts of the templates of some files that are kept to choose settings.

    Args:
        names: Files of templates.
        values: Source of the values.
        texts: Texts of each template.
    """
    kept = [t for name in names for t in templates(name) if is_for_choice(t)]
    return [recase(fill(template, values), values) for template in kept for _ in range(texts)]


def recase(example: AnnotatedText, values: Values) -> AnnotatedText:
    """Write some texts in small letters or capitals throughout, as people in a hurry do."""
    text = example.text
    if values.chance(0.12):
        text = text.lower()
    elif values.chance(0.04):
        text = text.upper()
    return AnnotatedText(text, example.spans) if len(text) == len(example.text) else example


def generate(values: Values, shares: Mapping[str, float]) -> Iterator[AnnotatedText]:
    """Yield filled templates without end.

    Args:
        values: Source of the values.
        shares: Share of each file of templates.
    """
    names = list(shares)
    trained = {name: [t for t in templates(name) if not is_for_choice(t)] for name in names}
    while True:
        name = values.weighted(names, [shares[name] for name in names])
        yield recase(fill(values.one(trained[name]), values), values)
