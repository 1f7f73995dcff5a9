"""Training texts of the recognizer: what is marked, and what is kept to choose thresholds."""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path

import pytest

from preparation.recognizer.kinds import KINDS
from preparation.recognizer.training import corpus, records, thresholds
from preparation.recognizer.training.corpus import (
    KIND_OF_SLOT,
    TEMPLATES,
    AnnotatedText,
    Span,
    expand,
    fill,
    for_choice,
    generate,
    is_for_choice,
    templates,
)
from preparation.recognizer.training.scoring import SpanScore
from preparation.recognizer.training.values import Values
from preparation.steps.step import Finding

pytestmark = pytest.mark.slow  # Faker in 33 locales takes seconds to load


@pytest.fixture(scope="module")
def values() -> Values:
    return Values(5, size=4)


def test_a_choice_is_written_as_one_of_its_words(values: Values) -> None:
    texts = {expand("⟨Hi|Hello⟩ {first}⟨!|⟩", values) for _ in range(60)}
    assert texts == {"Hi {first}!", "Hi {first}", "Hello {first}!", "Hello {first}"}


def test_people_are_a_list_of_marked_names(values: Values) -> None:
    example = fill("There were {people}.", values)
    assert len(example.spans) >= 2
    assert {span.kind for span in example.spans} == {"person"}
    outside = _outside(example)
    assert outside.startswith("There were ") and not set(outside[11:]) - set(" ,.&undyet")


def _outside(example: AnnotatedText) -> str:
    text = example.text
    for span in reversed(example.spans):
        text = text[: span.start] + text[span.end :]
    return text


def test_every_template_can_be_filled(values: Values) -> None:
    for path in sorted(TEMPLATES.glob("*.txt")):
        for template in templates(path.stem):
            text = fill(template, values).text
            assert not set("⟨⟩") & set(text), template


def test_spans_of_records_hold_values_and_no_labels(values: Values) -> None:
    labels = {
        label.lower()
        for fields in values.words["record_labels"].values()
        for slot, choices in fields.items()
        if slot in KIND_OF_SLOT
        for label in choices
    }
    for example in islice(records.generate(values), 300):
        for start, end, _ in example.spans:
            assert example.text[start:end].lower() not in labels


def test_templates_for_the_choice_are_not_trained_on(
    values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {t for t in templates("en") if is_for_choice(t)}
    assert 10 < len(kept) < len(templates("en")) / 4
    filled = set()

    def recorded(template: str, values: Values) -> AnnotatedText:
        filled.add(template)
        return fill(template, values)

    monkeypatch.setattr(corpus, "fill", recorded)
    list(islice(generate(values, {"en": 1.0}), 500))
    assert len(filled) > 50 and not filled & kept
    filled.clear()
    for_choice(["en"], values, 1)
    assert filled == kept


def test_a_span_counts_as_found_at_nine_tenths() -> None:
    score = SpanScore()
    example = AnnotatedText("0123456789 abc", (Span(0, 10, "phone"),))
    score.add(example, [Finding("phone", 0, 1, 10)])
    score.add(example, [Finding("phone", 0, 2, 10), Finding("person", 0, 11, 14)])
    assert score.recall() == 0.5
    assert score.precision() == pytest.approx(2 / 3)


def test_the_threshold_of_a_kind_finds_most_and_is_seldom_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With fixed scores: a lower threshold is worth it for addresses, and is not for names."""

    def scored(_folder: Path, threshold: float, _examples: object) -> SpanScore:
        score = SpanScore()
        low = threshold < 0.3
        score.found.update(person=90 + low, address=80 + 15 * low)
        score.predicted.update(person=92 + 6 * low, address=82 + 40 * low)
        score.right.update(person=91 + low, address=81 + 15 * low)
        return score

    monkeypatch.setattr(thresholds, "_score_with", scored)
    chosen = thresholds.choose(Path("unused"), [])
    assert chosen["person"] == thresholds.GRID[0]
    assert chosen["address"] == 0.2
    assert set(chosen) == set(KINDS)


def test_equal_seeds_give_equal_texts() -> None:
    random.seed(1)
    first = list(islice(records.generate(Values(9, size=3)), 5))
    random.seed(2)
    assert list(islice(records.generate(Values(9, size=3)), 5)) == first
