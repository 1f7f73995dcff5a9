"""Division of long documents at headings, paragraphs and sentences."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import NonNegativeInt, model_validator

from preparation.rows import PreparedRow
from preparation.steps.step import StepSection, Transformation
from preparation.tokenizer_file import tokenizer_file, tokenizer_problems
from training.config.types import PositiveInt
from validation.problem import Problem


class ChunkStep(StepSection):
    """Divides documents longer than a number of tokens or characters into parts.

    Parts end at the highest boundary that fits: a heading, a paragraph, a sentence, a word. Only
    rows of the shape `text` are divided; conversations and pairs stay as they are.
    """

    step: Literal["chunk"]
    max_tokens: PositiveInt | None = None
    """Greatest number of tokens of a part, by `tokenizer`."""
    max_characters: PositiveInt | None = None
    """Greatest number of characters of a part, instead of `max_tokens`."""
    tokenizer: str | None = None
    """Local folder of a model or tokenizer, its `tokenizer.json`, or the Hub id of a model in the
    local cache; required by `max_tokens`."""
    overlap: NonNegativeInt = 0
    """Tokens or characters that a part repeats from the end of the part before, at most. They count
    twice in training; useful for retrieval and for the generation of questions only."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.max_tokens is None) == (self.max_characters is None):
            raise ValueError("set one of max_tokens and max_characters")
        if (self.max_tokens is None) != (self.tokenizer is None):
            raise ValueError("max_tokens and tokenizer belong together: set both or neither")
        if self.overlap >= self.size:
            raise ValueError(f"overlap must be less than the size of a part ({self.size})")
        return self

    @property
    def size(self) -> int:
        """Greatest size of a part, in tokens or characters."""
        return self.max_tokens or self.max_characters or 0

    def problems(self, key: str) -> Iterable[Problem]:
        """Yield a tokenizer that does not exist."""
        if self.tokenizer is not None:
            yield from tokenizer_problems(self.tokenizer, f"{key}.tokenizer")

    def files(self) -> Mapping[str, Path]:
        """Return the tokenizer, whose content the result depends on."""
        return {} if self.tokenizer is None else {self.tokenizer: tokenizer_file(self.tokenizer)}

    def with_files(self, names: Mapping[str, str]) -> Self:
        """Return the section with its tokenizer named otherwise."""
        if self.tokenizer is None:
            return self
        return self.model_copy(update={"tokenizer": names[self.tokenizer]})

    def build(self) -> Transformation:
        """Return the transformation."""
        if self.overlap:
            unit = "tokens" if self.max_tokens else "characters"
            warnings.warn(
                f"chunk: with overlap: {self.overlap} up to {self.overlap / self.size:.0%} of the "
                f"{unit} are in two parts and count twice in training",
                stacklevel=2,
            )
        return _Chunking(self)


class _Chunking(Transformation):
    def __init__(self, section: ChunkStep):
        self._splitter = _splitter(section)

    def transform(self, row: PreparedRow) -> Iterable[PreparedRow]:
        if row.shape != "text":
            return (row,)
        parts = self._splitter.chunks(row.columns["text"])
        if len(parts) < 2:
            return (row,)
        group = row.group or row.id
        return tuple(
            replace(
                row,
                id=f"{row.id}#{number}",
                columns={**row.columns, "text": text},
                group=group,
                tags={**row.tags, "part": number, "parts": len(parts)},
            )
            for number, text in enumerate(parts, 1)
        )


def _splitter(section: ChunkStep) -> Any:
    """Return a splitter that keeps all white space, so that the parts are the document."""
    from semantic_text_splitter import MarkdownSplitter

    if section.tokenizer is None:
        return MarkdownSplitter(section.size, overlap=section.overlap, trim=False)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file(section.tokenizer)))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return MarkdownSplitter.from_huggingface_tokenizer(
        tokenizer, section.size, overlap=section.overlap, trim=False
    )
