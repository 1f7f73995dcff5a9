"""Spans of a text: where findings begin and end."""

from __future__ import annotations

import time

import numpy as np
import pytest

from preparation.recognizer.kinds import Kind
from preparation.recognizer.recognizer import KindSpan, likely_tokens
from preparation.steps.personal_data.spans import merge


@pytest.mark.parametrize(
    ("text", "found", "kind", "whole"),
    [
        (
            "Go to Rue Haute SAINT-PRIEST now",
            "Rue Haute SAINT",
            "address",
            "Rue Haute SAINT-PRIEST",
        ),
        ("at Erich-Haase-Straße 4, now", "Haase-Straße 4", "address", "Erich-Haase-Straße 4"),
        ("Dear Anne-Marie Le-Roy!", "Marie Le", "person", "Anne-Marie Le-Roy"),
        ("a Smith-based plan", "Smith", "person", "Smith"),
        ("the ex-Minister left", "Minister", "person", "Minister"),
        ("Anna - Bob", "Anna", "person", "Anna"),
    ],
)
def test_words_that_hyphens_join_to_a_finding_belong_to_it(
    text: str, found: str, kind: Kind, whole: str
) -> None:
    start = text.index(found)
    (span,) = merge(text, [], [KindSpan(start, start + len(found), kind)])
    assert text[span.start : span.end] == whole


@pytest.mark.parametrize(
    ("text", "found", "whole"),
    [
        ("We are six: Malon, Anna, Bob and Eve.", ["Anna", "Bob", "Eve"], ["Malon"]),
        ("With Anna, Bob Kovacs & Malon", ["Anna", "Bob Kovacs"], ["Malon"]),
        ("Anna, Bob and red apples", ["Anna", "Bob"], []),
        ("Paris, Rome, Anna and Bob", ["Anna", "Bob"], []),
        ("Anna and Malon left.", ["Anna"], []),
    ],
)
def test_an_enumeration_of_names_holds_names_alone(
    text: str, found: list[str], whole: list[str]
) -> None:
    spans = [KindSpan(text.index(name), text.index(name) + len(name), "person") for name in found]
    merged = merge(text, [], spans)
    assert {text[span.start : span.end] for span in merged} == {*found, *whole}


def test_enumerations_take_time_in_proportion_to_the_text() -> None:
    """A megabyte of capitals and commas in a second, whatever the places of names in it."""
    text = "Anna, Bob, " + "Xyz, " * 200_000
    spans = [KindSpan(0, 4, "person"), KindSpan(6, 9, "person")]
    before = time.process_time()
    merge(text, [], spans)
    assert time.process_time() - before < 5


def test_a_less_likely_token_next_to_a_finding_belongs_to_it() -> None:
    """Kind 0 at a threshold of 0.5: neighbours from 0.2 on, one after the other, and no others."""
    scores = np.array([[0.3, 0], [0.25, 0], [0.9, 0], [0.1, 0], [0.3, 0], [0, 0.3]], np.float32)
    thresholds = np.array([0.5, 0.5], np.float32)
    likely = likely_tokens(scores, scores.argmax(axis=1), thresholds)
    assert likely.tolist() == [True, True, True, False, False, False]
