"""Paraphrases of prompts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from preparation.synthesis.drafts import (
    Ask,
    Collection,
    Draft,
    as_question,
    tagged,
    with_answers,
)
from preparation.synthesis.section import SAMPLE, PlannedRequests, SynthesisSection
from preparation.synthesis.sources import SeedTask, read_pairs, read_prompts, shuffled
from training.config.data import Source, SourceLike
from training.config.types import PositiveInt
from training.evaluation.generation_metrics.rouge_l import rouge_l, words

_QUESTION = """Below is a message that a person wrote to an assistant.

<message>
{prompt}
</message>

Write {count} other messages that ask for exactly the same and that deserve exactly the same answer,
in the same language, in other words and other sentences. Keep every number, name, quotation and
piece of code as it is. Do not answer the message. Put each between <paraphrase> and
</paraphrase>."""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


class Paraphrase(SynthesisSection):
    """Prompts in other words."""

    kind: Literal["paraphrase"]
    prompts: SourceLike
    """Prompts, with answers if `answers` is `keep`."""
    per_row: PositiveInt = 2
    """Paraphrases that are requested for a prompt."""
    answers: Literal["keep", "teacher"] = "keep"
    """`keep`: each paraphrase has the answer of its original. `teacher`: the teacher answers it."""
    max_similarity: float = Field(default=0.9, gt=0, le=1)
    """Reject a paraphrase whose ROUGE-L with the original is at least this."""

    def drafts(self, ask: Ask, collected: Collection) -> Iterator[list[Draft]]:
        """Yield drafts, prompt by prompt in an order that the seed determines."""
        remaining = self._tasks()
        while remaining and collected.missing:
            count = math.ceil(collected.missing / self.per_row)
            tasks, remaining = remaining[:count], remaining[count:]
            replies = ask([as_question(self._request(task)) for task in tasks])
            drafts = [
                draft
                for task, reply in zip(tasks, replies, strict=True)
                for draft in self._parsed(task, reply.text, collected)
            ]
            yield drafts if self.answers == "keep" else self._answered(drafts, ask, collected)

    def planned(self) -> list[PlannedRequests]:
        """Return one request for each prompt that is needed, and those for answers."""
        tasks = self._tasks()
        requests = min(len(tasks), math.ceil(self.rows / self.per_row))
        questions = [as_question(self._request(task)) for task in tasks[: min(SAMPLE, requests)]]
        planned = [PlannedRequests("paraphrases", requests, questions)]
        if self.answers == "teacher":
            answered = min(self.rows, requests * self.per_row)
            sample = [as_question(task.prompt, self.system) for task in tasks[:SAMPLE]]
            planned.append(PlannedRequests("answers", answered, sample))
        return planned

    def sources(self) -> list[tuple[str, Source]]:
        """Return the prompts."""
        return [("prompts", self.prompts)]

    def _tasks(self) -> list[SeedTask]:
        read = read_pairs if self.answers == "keep" else read_prompts
        return shuffled(read(self.prompts), self.seed)

    def _request(self, task: SeedTask) -> str:
        return _QUESTION.format(prompt=task.prompt, count=self.per_row)

    def _parsed(self, task: SeedTask, reply: str, collected: Collection) -> Iterator[Draft]:
        texts = tagged(reply, "paraphrase")
        if not texts:
            collected.reject("unusable_reply")
        accepted = [words(task.prompt)]
        for number, text in enumerate(texts[: self.per_row]):
            if Counter(_NUMBER.findall(text)) != Counter(_NUMBER.findall(task.prompt)):
                collected.reject("changed_numbers")
            elif any(rouge_l(words(text), other) >= self.max_similarity for other in accepted):
                collected.reject("too_similar")
            else:
                accepted.append(words(text))
                tags = {"paraphrase_of": task.id}
                draft_id = f"{task.id}/{number}"
                yield Draft(draft_id, text, task.answer or "", group=task.id, tags=tags)

    def _answered(self, drafts: list[Draft], ask: Ask, collected: Collection) -> list[Draft]:
        return with_answers(drafts[: collected.missing], ask, collected, self.system)
