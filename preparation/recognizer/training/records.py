"""Templates of records: forms, tables, JSON and other lists of labels and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from preparation.recognizer.training.corpus import AnnotatedText, fill, recase
from preparation.recognizer.training.values import Values

Fields: TypeAlias = Sequence[tuple[str, str]]
"""Label and template of each value."""

LANGUAGES = {"en": 0.6, "de": 0.1, "es": 0.12, "fr": 0.1, "it": 0.04, "nl": 0.04}
_SEPARATORS = (": ", ": ", ": ", ":", " : ", ":\t", "\t", " = ", "=", " - ", ":\n", "   ", ":  ")
_ENDS = ("\n", "\n", "\n", "\n", "\n\n", "; ", ", ", " | ", ". ", " / ", "\r\n")


def generate(values: Values) -> Iterator[AnnotatedText]:
    """Yield filled records without end."""
    while True:
        template = values.one(_LAYOUTS)(values)
        yield recase(fill(template, values), values)


def fields(values: Values, least: int = 2, most: int = 8) -> Fields:
    """Choose some fields with labels in one language.

    Args:
        values: Source of the choices.
        least: Least number of fields.
        most: Most fields.
    """
    labels = values.words["record_labels"][
        values.weighted(tuple(LANGUAGES), tuple(LANGUAGES.values()))
    ]
    slots = values.sample(tuple(labels), values.between(least, most))
    if values.chance(0.6):  # most forms begin with the name and keep a usual order
        slots = sorted(slots, key=tuple(labels).index)
    return [(values.one(labels[slot]), f"{{{slot}}}") for slot in slots]


def _lines(values: Values) -> str:
    separator, end = values.one(_SEPARATORS), values.one(_ENDS)
    if separator in ("\t", "   ", ":\n") and not end.isspace():
        end = "\n"
    case = values.one(_CASES)
    bullet = values.one(("", "", "", "", "- ", "* ", "• ", "> "))
    pairs = (f"{bullet}{case(label)}{separator}{value}" for label, value in fields(values))
    heading = values.word("record_headings") + "\n" if values.chance(0.3) else ""
    return heading + end.join(pairs)


def _snake(label: str) -> str:
    return "_".join("".join(c if c.isalnum() else " " for c in label.lower()).split())


def _json(values: Values) -> str:
    quote = values.one(('"', '"', '"', "'"))
    inside = values.one((", ", ", ", ",", ",\n  "))
    pairs = (
        f"{quote}{_snake(label)}{quote}: {quote}{value}{quote}" for label, value in fields(values)
    )
    opening, closing = ("{\n  ", "\n}") if "\n" in inside else ("{", "}")
    return opening + inside.join(pairs) + closing


def _xml(values: Values) -> str:
    tags = [(_snake(label), value) for label, value in fields(values)]
    return values.one(("", "\n")).join(f"<{tag}>{value}</{tag}>" for tag, value in tags)


def _table(values: Values) -> str:
    separator = values.one((",", ",", ";", "\t", " | ", "|"))
    columns = fields(values, 2, 6)
    header = separator.join(values.one((label, _snake(label))) for label, _ in columns)
    rows = [separator.join(value for _, value in columns)] * values.between(1, 5)
    return "\n".join([header, *rows] if values.chance(0.7) else rows)


def _sentence(values: Values) -> str:
    """Write the fields into running text: `name Anna Bell, phone 555-0100`."""
    between = values.one((", ", ", ", "; ", " and ", ". "))
    join = values.one((" ", " ", " is ", ": ", " no. "))
    text = between.join(
        f"{values.one((label, label.lower()))}{join}{value}"
        for label, value in fields(values, 1, 4)
    )
    return values.one(("", "", "Please note: ", "For the file: ", "My ", "Her ")) + text


_CASES: tuple[Callable[[str], str], ...] = (
    *(str, str, str),
    *(str.lower, str.upper, _snake),
)
_LAYOUTS = (_lines, _lines, _lines, _json, _xml, _table, _sentence)
