"""Tests of the division of long documents."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers

from preparation.rows import PreparedRow
from preparation.steps.chunk import ChunkStep

DOCUMENT = (
    "# One\n\nFirst sentence is here. Second sentence is here.\n\nAnother paragraph.\n\n"
    "# Two\n\nA last paragraph of some words."
)
PIECES = ["# Head\n", "word ", "Ends here. ", "\n\n", "é漢", "```\n", "\t", "x" * 30]


def parts_of(text: str, step: ChunkStep) -> list[PreparedRow]:
    row = PreparedRow("book.txt:1", "book", "text", {"text": text}, tags={"language": "en"})
    return list(step.build().transform(row))


def word_tokenizer(folder: Path) -> Path:
    """Save a tokenizer of one token per word or sign."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES)), st.text(max_size=60), st.integers(5, 60))
def test_parts_without_overlap_are_the_document(pieces: list[str], tail: str, size: int) -> None:
    text = "".join(pieces) + tail
    rows = parts_of(text, ChunkStep(step="chunk", max_characters=size))
    assert "".join(row.columns["text"] for row in rows) == text
    assert all(len(row.columns["text"]) <= size for row in rows)


def test_parts_end_at_headings_then_paragraphs_then_sentences() -> None:
    step = ChunkStep(step="chunk", max_characters=80)
    assert [row.columns["text"].strip() for row in parts_of(DOCUMENT, step)] == [
        "# One\n\nFirst sentence is here. Second sentence is here.\n\nAnother paragraph.",
        "# Two\n\nA last paragraph of some words.",
    ]
    step = ChunkStep(step="chunk", max_characters=30)
    texts = [row.columns["text"].strip() for row in parts_of(DOCUMENT, step)]
    assert "Second sentence is here." in texts and "Another paragraph." in texts


def test_parts_keep_tags_and_share_the_group_of_their_document() -> None:
    rows = parts_of(DOCUMENT, ChunkStep(step="chunk", max_characters=80))
    assert [row.id for row in rows] == ["book.txt:1#1", "book.txt:1#2"]
    assert {row.group for row in rows} == {"book.txt:1"}
    assert rows[0].tags == {"language": "en", "part": 1, "parts": 2}


def test_the_budget_counts_tokens_of_the_tokenizer(tmp_path: Path) -> None:
    folder = word_tokenizer(tmp_path)
    text = "one two three four. " * 50
    rows = parts_of(text, ChunkStep(step="chunk", max_tokens=20, tokenizer=str(folder)))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    counts = [len(tokenizer.encode(row.columns["text"]).ids) for row in rows]
    assert max(counts) == 20 and "".join(row.columns["text"] for row in rows) == text


def test_short_documents_and_conversations_stay_as_they_are() -> None:
    step = ChunkStep(step="chunk", max_characters=10).build()
    for row in (
        PreparedRow("a:1", "a", "text", {"text": "short"}),
        PreparedRow("a:2", "a", "prompt_completion", {"prompt": "p" * 90, "completion": "c" * 90}),
        PreparedRow("a:3", "a", "messages", {"messages": [{"role": "user", "content": "x" * 99}]}),
    ):
        assert list(step.transform(row)) == [row]


def test_overlap_is_warned_of_and_repeats_text() -> None:
    step = ChunkStep(step="chunk", max_characters=40, overlap=20)
    text = "one two three four five six. " * 10
    with pytest.warns(UserWarning, match="up to 50% of the characters are in two parts"):
        rows = parts_of(text, step)
    assert sum(len(row.columns["text"]) for row in rows) > len(text)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "set one of"),
        ({"max_tokens": 9, "max_characters": 9, "tokenizer": "x"}, "set one of"),
        ({"max_tokens": 9}, "belong together"),
        ({"max_characters": 9, "tokenizer": "x"}, "belong together"),
        ({"max_characters": 9, "overlap": 9}, "less than the size of a part"),
    ],
)
def test_contradictory_sizes_are_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ChunkStep.model_validate({"step": "chunk", **keys})


def test_a_tokenizer_that_does_not_exist_is_a_problem(tmp_path: Path) -> None:
    step = ChunkStep(step="chunk", max_tokens=9, tokenizer=str(tmp_path))
    (problem,) = step.problems("prepare.steps.1")
    assert problem.path == "prepare.steps.1.tokenizer" and "tokenizer.json" in str(problem)
    word_tokenizer(tmp_path)
    assert list(step.problems("prepare.steps.1")) == []
