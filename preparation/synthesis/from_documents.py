"""Questions and answers that are grounded in passages of documents."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from preparation.synthesis.drafts import Ask, Collection, Draft, as_question, tagged
from preparation.synthesis.section import SAMPLE, PlannedRequests, SynthesisSection
from preparation.synthesis.sources import Passage, read_passages, shuffled
from training.config.data import Source, SourceLike
from training.config.types import PositiveInt

_QUESTION = """Below is a passage from a document.

<passage>
{passage}
</passage>

Write {count} different questions that a reader might have and that this passage answers, each with
its answer. A question must make sense without the passage: it names what it asks about and does
not mention a passage or a document. An answer uses nothing but the passage. Give for each answer
the sentence or part of a sentence of the passage that supports it, copied word for word.
Write each of them in the language of the passage and in this form:

<item>
<question>…</question>
<answer>…</answer>
<quote>…</quote>
</item>"""
_MIN_QUOTE_WORDS = 3
_QUOTATION_MARKS = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'"})


class FromDocuments(SynthesisSection):
    """Questions and answers from documents.

    Each answer comes with a quotation, which must occur in the passage.
    """

    kind: Literal["from_documents"]
    documents: SourceLike
    """Documents: text files, or rows with a column `text`."""
    passage_characters: int = Field(default=2000, ge=100)
    """Longest passage."""
    questions_per_passage: PositiveInt = 3
    """Questions that are requested for a passage."""
    include_passage: bool = False
    """Begin each prompt with the passage, for models that answer from retrieved text."""

    def drafts(self, ask: Ask, collected: Collection) -> Iterator[list[Draft]]:
        """Yield drafts, passage by passage in an order that the seed determines."""
        remaining = self._passages()
        while remaining and collected.missing:
            count = math.ceil(collected.missing / self.questions_per_passage)
            passages, remaining = remaining[:count], remaining[count:]
            replies = ask([as_question(self._request(passage)) for passage in passages])
            yield [
                draft
                for passage, reply in zip(passages, replies, strict=True)
                for draft in self._parsed(passage, reply.text, collected)
            ]

    def planned(self) -> list[PlannedRequests]:
        """Return one request for each passage that is needed."""
        passages = self._passages()
        requests = min(len(passages), math.ceil(self.rows / self.questions_per_passage))
        questions = [as_question(self._request(p)) for p in passages[: min(SAMPLE, requests)]]
        return [PlannedRequests("questions and answers", requests, questions)]

    def sources(self) -> list[tuple[str, Source]]:
        """Return the documents."""
        return [("documents", self.documents)]

    def _passages(self) -> list[Passage]:
        return shuffled(read_passages(self.documents, self.passage_characters), self.seed)

    def _request(self, passage: Passage) -> str:
        return _QUESTION.format(passage=passage.text, count=self.questions_per_passage)

    def _parsed(self, passage: Passage, reply: str, collected: Collection) -> Iterator[Draft]:
        items = tagged(reply, "item")
        if not items:
            collected.reject("unusable_reply")
        for number, item in enumerate(items[: self.questions_per_passage]):
            parts = [tagged(item, tag) for tag in ("question", "answer", "quote")]
            if any(len(part) != 1 or not part[0] for part in parts):
                collected.reject("incomplete_item")
                continue
            question, answer, quote = (part[0] for part in parts)
            if not is_quoted(quote, passage.text):
                collected.reject("quote_not_in_passage")
                continue
            prompt = f"{passage.text}\n\n{question}" if self.include_passage else question
            yield Draft(
                f"{passage.id}/{number}",
                prompt,
                answer,
                group=passage.document,
                context=passage.text,
                tags={"passage_id": passage.id, "quote": quote},
            )


def is_quoted(quote: str, passage: str) -> bool:
    """Return True if a quotation of at least three words occurs in a passage.

    Line breaks, the shape of quotation marks and Unicode compatibility forms may differ, and the
    quotation may be enclosed in quotation marks.
    """
    text = _unified(quote).strip("\"' ")
    # Scripts without spaces, such as Chinese, have no words to count.
    if text.isascii() and len(text.split()) < _MIN_QUOTE_WORDS:
        return False
    return bool(text) and text in _unified(passage)


def _unified(text: str) -> str:
    form = unicodedata.normalize("NFKC", text).translate(_QUOTATION_MARKS)
    return re.sub(r"\s+", " ", form).strip()
