from __future__ import annotations

import sys
from itertools import islice

import pytest

from training.data.readers import python_stdlib
from training.errors import DataError


def test_text_is_real_and_always_in_the_same_order() -> None:
    first = list(islice(python_stdlib.records("text"), 20))
    assert first == list(islice(python_stdlib.records(None), 20))
    assert len({record.origin for record in first}) == 20
    assert sum(len(record.values["text"]) for record in first) > 50_000


def test_questions_are_answered_from_docstrings() -> None:
    rows = {record.origin: record.values for record in islice(python_stdlib.records("qa"), 1_000)}
    assert len(rows) == 1_000
    for values in rows.values():
        assert values["prompt"].startswith("What does ") and values["prompt"].endswith(" do?")
        assert len(values["completion"].split()) >= 3
        assert len(values["completion"]) <= 700


def test_pairs_set_an_answer_to_the_point_against_a_rambling_one() -> None:
    rows = [record.values for record in islice(python_stdlib.records("pairs"), 500)]
    assert len(rows) == 500
    for row in rows:
        assert len(row["rejected"]) > 1.5 * len(row["chosen"])
        assert row["rejected"].startswith(row["chosen"][: row["chosen"].index(". ")])
    judged = [record.values for record in islice(python_stdlib.records("judged"), 500)]
    assert {row["label"] for row in judged} == {True, False}
    asked = next(python_stdlib.records("questions")).values
    assert asked["prompt"].endswith(" do?") and asked["reference"]


def test_nothing_is_imported() -> None:
    before = set(sys.modules)
    list(islice(python_stdlib.records("qa"), 500))
    assert not {"antigravity", "this", "tkinter"} & (set(sys.modules) - before)


def test_an_unknown_subset_is_named() -> None:
    with pytest.raises(DataError, match="subset is one of text, qa, pairs"):
        list(python_stdlib.records("novels"))
