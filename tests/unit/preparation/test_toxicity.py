"""Toxic words: kinds, spans, what is left alone, and the filter."""

from __future__ import annotations

from typing import Any

import pytest

from preparation.rows import PreparedRow
from preparation.steps.step import Rule
from preparation.steps.toxicity import KINDS, WORDS, ToxicityStep, toxic_spans


def _rule(**settings: Any) -> Rule:
    rule = ToxicityStep(step="toxicity", **settings).build()
    assert isinstance(rule, Rule)
    return rule


def _pair(prompt: str, answer: str) -> PreparedRow:
    columns = {"prompt": prompt, "completion": answer}
    return PreparedRow("a:1", "a", "prompt_completion", columns)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("This is bullshit, you Moron!", ["profanity", "insult"]),
        ("what the f**k", ["profanity"]),
        ("Go kill yourself.", ["threat"]),
        ("We’ll murder them all", ["threat"]),
        ("She deserves to die", ["threat"]),
    ],
)
def test_kinds(text: str, kinds: list[str]) -> None:
    spans = list(toxic_spans(text))
    assert [kind for kind, _, _ in spans] == kinds
    assert all(text[start:end].strip() == text[start:end] for _, start, end in spans)


@pytest.mark.parametrize(
    "text",
    [
        "Scunthorpe's grassy assessment of the classic cockpit, Mr Dickens.",
        "Breast, penis, vagina, anus and rectum are examined; sexual abuse is reported.",
        "Black, gay, queer, Jewish and Muslim people; the Virgin Mary; Hell and damnation.",
        "He was killed. The accused must die out of court? I will kill the process.",
        "2 * 3 * x[asset] # pass",
    ],
)
def test_terms_of_medicine_law_and_religion_are_left_alone(text: str) -> None:
    assert list(toxic_spans(text)) == []


def test_every_word_has_a_kind_and_is_found() -> None:
    assert set(WORDS.values()) == set(KINDS) - {"threat"}
    for word, kind in WORDS.items():
        assert list(toxic_spans(f"a {word.upper()}.")) == [(kind, 2, 2 + len(word))]


def test_rows_are_tagged_and_only_a_large_share_is_a_reason() -> None:
    rule = _rule(max_share=0.1)
    mild = rule.examine(_pair("Why is my code broken?", "Because some idiot wrote it in a hurry."))
    assert (mild.tags, mild.reasons) == ({"toxic_words": 1}, ())
    assert [(each.kind, each.part) for each in mild.findings] == [("insult", 1)]
    harsh = rule.examine(_pair("Hi", "Shut up, you fucking bitch."))
    assert (harsh.tags, harsh.reasons) == ({"toxic_words": 2}, ("toxic",))
    clean = rule.examine(_pair("Hi", "Hello."))
    assert (clean.tags, clean.reasons, clean.findings) == ({"toxic_words": 0}, (), ())


def test_nothing_is_rejected_unless_asked() -> None:
    assert ToxicityStep(step="toxicity").action == "report"
