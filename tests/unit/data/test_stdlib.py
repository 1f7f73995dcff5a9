from __future__ import annotations

import sys
from itertools import islice

import pytest

from training.data import stdlib
from training.errors import DataError


def test_text_is_real_and_always_in_the_same_order() -> None:
    first = list(islice(stdlib.records("text"), 20))
    assert first == list(islice(stdlib.records(None), 20))
    assert len({record.origin for record in first}) == 20
    assert sum(len(record.values["text"]) for record in first) > 50_000


def test_questions_are_answered_from_docstrings() -> None:
    rows = {record.origin: record.values for record in islice(stdlib.records("qa"), 1_000)}
    assert len(rows) == 1_000
    for values in rows.values():
        assert values["prompt"].startswith("What does ") and values["prompt"].endswith(" do?")
        assert len(values["completion"].split()) >= 3
        assert len(values["completion"]) <= 700


def test_nothing_is_imported() -> None:
    before = set(sys.modules)
    list(islice(stdlib.records("qa"), 500))
    assert not {"antigravity", "this", "tkinter"} & (set(sys.modules) - before)


def test_an_unknown_subset_is_named() -> None:
    with pytest.raises(DataError, match="subset is one of text, qa"):
        list(stdlib.records("novels"))
