"""New instructions from a few seed tasks: Self-Instruct (Wang et al. 2022, arXiv:2212.10560)."""

from __future__ import annotations

import math
import random
import re
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
from preparation.synthesis.rouge import InstructionPool
from preparation.synthesis.section import (
    PlannedRequests,
    SynthesisSection,
    drawing_seed,
)
from preparation.synthesis.sources import read_prompts
from training.config.data import Source, SourceLike
from training.config.types import PositiveInt
from training.data.schema.rows import Message
from training.errors import DataError

_QUESTION = """Here are {shown} tasks that people gave to an assistant.

{examples}

Write {count} new tasks of the same kind. Each must differ from the tasks above and from each other
in topic and in what is to be done, must be complete in itself, and must be answerable with text
alone. Do not answer them. Put each between <task> and </task>."""
_OLD_EXAMPLES, _NEW_EXAMPLES = 6, 2
"""Examples from the seed tasks and from the new ones in a request (section 2.2 of the paper)."""
_MIN_WORDS, _MAX_WORDS = 4, 150
"""Bounds of the words of a task (the paper's code rejects up to 3 words and more than 150)."""
_NOT_TEXT = re.compile(r"\b(images?|graphs?|pictures?|files?|maps?|draw|plot)\b", re.IGNORECASE)
"""Words of tasks that a language model cannot do, from section 2.2 of the paper and its code."""
_MAX_ROUNDS_WITHOUT_NEW = 3


class SelfInstruct(SynthesisSection):
    """New tasks that resemble seed tasks, and their answers."""

    kind: Literal["self_instruct"]
    seeds: SourceLike
    """Seed tasks; their prompts are shown as examples."""
    tasks_per_request: PositiveInt = 8
    """Tasks that are asked for in one request."""
    requests_per_round: PositiveInt = 8
    """Requests before the new tasks are examples too."""
    max_similarity: float = Field(default=0.7, gt=0, le=1)
    """Reject a task whose ROUGE-L with an earlier one is at least this, as in the paper."""

    def drafts(self, ask: Ask, collected: Collection) -> Iterator[list[Draft]]:
        """Yield drafts, round by round, until no row is missing or three rounds add nothing."""
        seeds = self._seeds()
        pool = InstructionPool()
        for seed in seeds:
            pool.add(seed)
        tasks: list[str] = []
        answered, request, rounds_without_new = 0, 0, 0
        while collected.missing and rounds_without_new < _MAX_ROUNDS_WITHOUT_NEW:
            if answered == len(tasks):
                count = self._requests(collected.missing)
                questions = [self._request(seeds, tasks, request + n) for n in range(count)]
                request += count
                new = [
                    task
                    for reply in ask(questions)
                    for task in self._new_tasks(reply.text, pool, collected)
                ]
                rounds_without_new = 0 if new else rounds_without_new + 1
                tasks += new
            batch = tasks[answered : answered + collected.missing]
            drafts = [
                Draft(f"task:{answered + n + 1}", task, "", group=f"task:{answered + n + 1}")
                for n, task in enumerate(batch)
            ]
            answered += len(batch)
            yield with_answers(drafts, ask, collected, self.system)

    def planned(self) -> list[PlannedRequests]:
        """Return the requests for tasks, if every second one is new, and those for answers."""
        seeds = self._seeds()
        requests = 2 * math.ceil(self.rows / self.tasks_per_request)
        questions = [self._request(seeds, [], n) for n in range(self._requests(self.rows))]
        length = math.ceil(sum(map(len, seeds)) / len(seeds)) + len(self.system or "")
        return [
            PlannedRequests("tasks", requests, questions),
            PlannedRequests("answers", self.rows, characters=length),
        ]

    def sources(self) -> list[tuple[str, Source]]:
        """Return the seed tasks."""
        return [("seeds", self.seeds)]

    def _seeds(self) -> list[str]:
        seeds = list(dict.fromkeys(task.prompt for task in read_prompts(self.seeds)))
        if len(seeds) < _OLD_EXAMPLES:
            raise DataError(
                f"{self.seeds.source}: {len(seeds)} different seed tasks, and a request shows "
                f"{_OLD_EXAMPLES}. Write more of them; the paper has 175"
            )
        return seeds

    def _requests(self, missing: int) -> int:
        return min(self.requests_per_round, math.ceil(missing / self.tasks_per_request))

    def _request(self, seeds: list[str], tasks: list[str], number: int) -> list[Message]:
        random_ = random.Random(drawing_seed(self.seed, "examples", number))
        new = random_.sample(tasks, min(_NEW_EXAMPLES, len(tasks)))
        old = random_.sample(seeds, min(len(seeds), _OLD_EXAMPLES + _NEW_EXAMPLES - len(new)))
        shown = [*old, *new]
        random_.shuffle(shown)
        examples = "\n".join(f"<task>{task}</task>" for task in shown)
        return as_question(
            _QUESTION.format(shown=len(shown), examples=examples, count=self.tasks_per_request)
        )

    def _new_tasks(self, reply: str, pool: InstructionPool, collected: Collection) -> Iterator[str]:
        suggested = tagged(reply, "task")
        if not suggested:
            collected.reject("unusable_reply")
        for task in suggested:
            if not _MIN_WORDS <= len(task.split()) <= _MAX_WORDS:
                collected.reject("length")
            elif _NOT_TEXT.search(task):
                collected.reject("not_text")
            elif pool.reaches(task, self.max_similarity):
                collected.reject("too_similar")
            else:
                pool.add(task)
                yield task
