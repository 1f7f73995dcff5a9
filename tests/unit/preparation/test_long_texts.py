"""Long rows: the work grows with their length, counted in searches and comparisons, not in time."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from preparation.examples import ExampleTexts
from preparation.recognizer.recognizer import KindSpan
from preparation.rows import PreparedRow
from preparation.steps.personal_data.patterns import without_overlaps
from preparation.steps.personal_data.replacement import Placeholders
from preparation.steps.personal_data.spans import repeat_names
from preparation.steps.secrets.scanner import SecretScanner
from preparation.steps.step import Examination, Rule, StepSection


def _one_by_one(spans: Sequence[KindSpan]) -> list[KindSpan]:
    """Compare each span with all that were chosen: the definition."""
    chosen: list[KindSpan] = []
    for span in spans:
        if all(span.end <= other.start or other.end <= span.start for other in chosen):
            chosen.append(span)
    return sorted(chosen)


def test_overlaps_are_those_of_the_definition() -> None:
    draw = random.Random(7)
    for _ in range(200):
        starts = [draw.randrange(60) for _ in range(draw.randrange(2, 25))]
        spans = [KindSpan(start, start + draw.randrange(1, 9), "person") for start in starts]
        assert without_overlaps(spans) == _one_by_one(spans)


class _CountedSpan(KindSpan):
    """Span that counts how often its end is read."""

    reads = 0

    def __getattribute__(self, name: str) -> object:
        if name == "end":
            _CountedSpan.reads += 1
        return super().__getattribute__(name)


def test_spans_are_compared_with_their_neighbours_alone() -> None:
    spans: list[KindSpan] = [_CountedSpan(10 * at, 10 * at + 5, "person") for at in range(2_000)]
    _CountedSpan.reads = 0
    assert without_overlaps(spans) == spans
    assert _CountedSpan.reads <= 4 * len(spans)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ANNA MARIA KELLER, Keller and Kellers", ["ANNA MARIA KELLER", "Keller"]),
        ("anna maria keller by Anna", ["anna maria keller", "Anna"]),
        (
            "Seán O'BRIEN-WILDE met O'brien-Wilde and Wilde",
            ["Seán O'BRIEN-WILDE", "Wilde", "Wilde"],
        ),
        ("İsmail irmak and ISMAIL IRMAK", ["İsmail irmak", "ISMAIL IRMAK"]),
    ],
)
def test_names_are_repeated_in_any_case(text: str, expected: list[str]) -> None:
    names = ["Anna Maria Keller", "Seán O'Brien-Wilde", "Ismail Irmak"]
    spans = [[KindSpan(0, len(name), "person")] for name in names]
    repeated = repeat_names([*names, text], [*spans, []])[-1]
    assert [text[span.start : span.end] for span in repeated] == expected


def test_parts_of_many_names_have_the_number_of_their_name() -> None:
    placeholders = Placeholders()
    names = [f"Name{at} Family{at}" for at in range(3_000)]
    numbers = [placeholders.number("person", name) for name in names]
    assert numbers == list(range(1, 3_001))
    assert placeholders.number("person", "Family2000") == 2_001


def test_places_of_secrets_among_other_alphabets() -> None:
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    text = f"Größe 漢字 {token}\nпримечание 🙂 {token} é {token}\n"
    spans = SecretScanner().scan(text)
    assert [text[span.start : span.end] for span in spans] == [token] * 3


class _Counting(Rule):
    characters = 0

    def examine(self, row: PreparedRow) -> Examination:
        _Counting.characters += sum(len(part.text) for part in row.parts())
        return Examination()


class _CountingStep(StepSection):
    def build(self) -> Rule:
        return _Counting()

    def finder(self) -> Rule:
        return _Counting()


def test_an_example_searches_the_beginning_of_a_long_row() -> None:
    row = PreparedRow("a:1", "a", "text", {"text": "word " * 400_000})
    _Counting.characters = 0
    assert ExampleTexts([_CountingStep()]).excerpt(row).startswith("word word")
    assert 0 < _Counting.characters < 100_000
