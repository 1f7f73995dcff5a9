"""Sources of a synthesis: prompts, prompts with answers, and passages of documents."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from training.config.data import Source
from training.config.method_base import RowKind
from training.data.readers.records import BadRecord
from training.data.readers.sources import locate
from training.data.schema.rows import CompletionRow, DialogueRow, RowError, TextRow, as_prompt
from training.data.schema.schema_reader import SchemaReader
from training.errors import DataError


@dataclass(frozen=True, slots=True)
class SeedTask:
    """Prompt of a source, with its answer if the source has one.

    Attributes:
        id: Origin of the row: `tasks.jsonl:17`.
        prompt: The prompt.
        answer: The answer, or None.
    """

    id: str
    prompt: str
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """Passage of a document.

    Attributes:
        id: Origin of the document and the characters: `guide.txt:1#0-1480`.
        document: Origin of the document.
        text: The passage.
    """

    id: str
    document: str
    text: str


def read_prompts(source: Source) -> list[SeedTask]:
    """Return the prompts of a source in their order.

    Raises:
        DataError: A row cannot be read, or is a conversation of several messages.
    """
    tasks = []
    for row in _rows(source, "prompt"):
        prompt = as_prompt(row).prompt
        if not isinstance(prompt, str):
            if len(prompt) != 1 or prompt[0]["role"] != "user":
                raise DataError(_several_messages(row.id))
            prompt = str(prompt[0]["content"])
        tasks.append(SeedTask(row.id, prompt))
    return tasks


def read_pairs(source: Source) -> list[SeedTask]:
    """Return the prompts and answers of a source in their order.

    Raises:
        DataError: A row cannot be read, or is not one prompt with one answer.
    """
    return [_pair(row) for row in _rows(source, "dialogue")]


def read_passages(source: Source, characters: int) -> list[Passage]:
    """Return the documents of a source, cut at headings, paragraphs or sentences.

    Args:
        source: Documents: text files, or rows with a column `text`.
        characters: Longest passage.

    Raises:
        DataError: A row cannot be read.
    """
    from semantic_text_splitter import TextSplitter

    splitter = TextSplitter(characters)
    passages = []
    for row in _rows(source, "text"):
        assert isinstance(row, TextRow)
        for start, text in splitter.chunk_indices(row.text):
            place = f"{row.id}#{start}-{start + len(text)}"
            passages.append(Passage(place, row.id, text))
    return passages


def shuffled(items: list[Any], seed: int) -> list[Any]:
    """Return the items in an order that depends only on the seed and their number."""
    order = list(items)
    random.Random(seed).shuffle(order)
    return order


def _rows(source: Source, want: RowKind) -> Iterator[Any]:
    """Yield the typed rows of a source.

    Raises:
        DataError: A row cannot be read, or there are none.
    """
    reader = SchemaReader(source, want)
    count = 0
    for _, record in locate(source).records():
        if source.limit is not None and count == source.limit:
            return
        if isinstance(record, BadRecord):
            raise DataError(f"{record.origin}: {record.reason}")
        try:
            row = reader.read(record)
        except RowError as error:
            raise DataError(f"{record.origin}: {error}") from error
        count += 1
        yield row
    if not count:
        raise DataError(f"{source.source}: there are no rows in it")


def _pair(row: Any) -> SeedTask:
    """Return the prompt and the answer of a row.

    Raises:
        DataError: The row is not one prompt with one answer.
    """
    if isinstance(row, CompletionRow) and not row.system and not row.tools:
        return SeedTask(row.id, row.prompt, row.completion)
    if isinstance(row, DialogueRow) and not row.tools:
        roles = [message["role"] for message in row.messages]
        if roles == ["user", "assistant"]:
            prompt, answer = (str(message["content"]) for message in row.messages)
            return SeedTask(row.id, prompt, answer)
    raise DataError(_several_messages(row.id))


def _several_messages(origin: str) -> str:
    return (
        f"{origin}: the row is not one prompt with one answer (it has a system message, tools or "
        f"several turns). Leave such rows out of this source"
    )
