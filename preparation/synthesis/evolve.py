"""Harder and rarer prompts from simple ones: Evol-Instruct (Xu et al. 2023, arXiv:2304.12244)."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from preparation.rows import Scalar
from preparation.synthesis.drafts import (
    Ask,
    Collection,
    Draft,
    as_question,
    tagged,
    with_answers,
)
from preparation.synthesis.section import (
    SAMPLE,
    PlannedRequests,
    SynthesisSection,
    drawing_seed,
)
from preparation.synthesis.sources import read_prompts, shuffled
from training.config.data import Source, SourceLike
from training.config.types import PositiveInt

Operation = Literal["constraints", "deepening", "concretizing", "reasoning", "input", "breadth"]
_IN_DEPTH = """Rewrite the task below into a harder version of it, which a person can still
understand and answer. {how} Keep tables, code and other input of the task. Add at most 20 words, or
as many as the input takes. Do not answer the task. Put the new task between <task> and </task>.

<original>
{prompt}
</original>"""
_IN_BREADTH = """Write one new task that is inspired by the task below: of the same field, but on a
rarer topic, and of about the same length and difficulty. It must be understandable and answerable
by itself. Do not answer it. Put the new task between <task> and </task>.

<original>
{prompt}
</original>"""
_HOW: dict[Operation, str] = {
    "constraints": "Add one more constraint or requirement.",
    "deepening": "If it asks about something, ask more deeply and about more of it.",
    "concretizing": "Replace general notions by more specific ones.",
    "reasoning": "If a little thought would solve it, make it require several steps of reasoning.",
    "input": "Add input data that must be used, such as a table, code, a formula or JSON.",
}
OPERATIONS: tuple[Operation, ...] = (
    "constraints",
    "deepening",
    "concretizing",
    "reasoning",
    "input",
    "breadth",
)
"""Operations of the paper: five in depth (figure 2) and one in breadth."""
_COMPARISON = """Do the two tasks below ask for the same, with the same constraints and requirements
and the same depth and breadth? Reply with SAME or DIFFERENT alone.

First task:
{first}

Second task:
{second}"""
_COPIED = re.compile(
    r"</?original>|\b(original|given|new|rewritten|created) (task|prompt)\b", re.IGNORECASE
)
"""Words of the request, which a new task must not contain (elimination 4 of the paper)."""
_STOP_WORDS = """
a an the and or but if of at by for with about to from in on is are was were be been it its this
that these those i you he she we they as so not no do does did can will just
"""
"""English words without content. An answer of them and punctuation alone is eliminated
(elimination 3 of the paper)."""
_WITHOUT_CONTENT = frozenset(_STOP_WORDS.split())


@dataclass(frozen=True, slots=True)
class _Evolving:
    """Prompt in its present form, with the row it began as."""

    origin: str
    prompt: str


class Evolve(SynthesisSection):
    """Prompts that are made harder or rarer in rounds, and their answers."""

    kind: Literal["evolve"]
    prompts: SourceLike
    """Prompts to begin with."""
    rounds: PositiveInt = 4
    """Rounds; each begins with the prompts of the one before. The paper has 4."""
    operations: tuple[Operation, ...] = OPERATIONS
    """Operations, of which one is drawn for each prompt and round."""

    def drafts(self, ask: Ask, collected: Collection) -> Iterator[list[Draft]]:
        """Yield drafts, round by round; a prompt that is eliminated is evolved again."""
        current = self._prompts()
        for number in range(self.rounds):
            if not collected.missing:
                return
            drafts = self._evolved(current[: collected.missing], number, ask, collected)
            usable = [
                draft
                for draft in with_answers(drafts, ask, collected, self.system)
                if not _is_empty(draft, collected)
            ]
            evolved = {draft.group: draft.prompt for draft in usable}
            current = [_Evolving(p.origin, evolved.get(p.origin, p.prompt)) for p in current]
            yield usable

    def planned(self) -> list[PlannedRequests]:
        """Return the requests for prompts, comparisons and answers, over all rounds."""
        prompts = self._prompts()
        requests = min(self.rows, self.rounds * len(prompts))
        sample = prompts[: min(SAMPLE, requests)]
        questions = [as_question(self._request(p, 0)[1]) for p in sample]
        length = sum(len(prompt.prompt) for prompt in sample) // len(sample)
        added = self.teacher.max_new_tokens
        return [
            PlannedRequests("prompts", requests, questions),
            PlannedRequests("comparisons", requests, characters=2 * length + added),
            PlannedRequests("answers", requests, characters=length + added),
        ]

    def sources(self) -> list[tuple[str, Source]]:
        """Return the prompts."""
        return [("prompts", self.prompts)]

    def _prompts(self) -> list[_Evolving]:
        tasks = shuffled(read_prompts(self.prompts), self.seed)
        return [_Evolving(task.id, task.prompt) for task in tasks]

    def _request(self, prompt: _Evolving, number: int) -> tuple[Operation, str]:
        draw = random.Random(drawing_seed(self.seed, prompt.origin, number))
        operation = draw.choice(self.operations)
        if operation == "breadth":
            return operation, _IN_BREADTH.format(prompt=prompt.prompt)
        return operation, _IN_DEPTH.format(prompt=prompt.prompt, how=_HOW[operation])

    def _evolved(
        self, prompts: list[_Evolving], number: int, ask: Ask, collected: Collection
    ) -> list[Draft]:
        """Return the evolved prompts of one round without answers."""
        requests = [self._request(prompt, number) for prompt in prompts]
        replies = ask([as_question(text) for _, text in requests])
        drafts, originals = [], []
        for prompt, (operation, _), reply in zip(prompts, requests, replies, strict=True):
            tasks = tagged(reply.text, "task")
            if len(tasks) != 1 or not tasks[0]:
                collected.reject("unusable_reply")
            elif _COPIED.search(tasks[0]) and not _COPIED.search(prompt.prompt):
                collected.reject("copied_from_request")
            else:
                tags: dict[str, Scalar] = {
                    "evolved_from": prompt.origin,
                    "operation": operation,
                    "round": number + 1,
                }
                draft_id = f"{prompt.origin}/{number + 1}"
                drafts.append(Draft(draft_id, tasks[0], "", group=prompt.origin, tags=tags))
                originals.append(prompt.prompt)
        return _with_information_gain(drafts, originals, ask, collected)


def _with_information_gain(
    drafts: list[Draft], originals: list[str], ask: Ask, collected: Collection
) -> list[Draft]:
    """Return the drafts that the teacher calls different from their originals (elimination 1)."""
    questions = [
        as_question(_COMPARISON.format(first=original, second=draft.prompt))
        for original, draft in zip(originals, drafts, strict=True)
    ]
    different = []
    for draft, reply in zip(drafts, ask(questions), strict=True):
        if re.search(r"\bDIFFERENT\b", reply.text, re.IGNORECASE):
            different.append(draft)
        else:
            collected.reject("no_information_gain")
    return different


def _is_empty(draft: Draft, collected: Collection) -> bool:
    """Return True, and count it, if an answer has stop words and punctuation alone."""
    if any(word not in _WITHOUT_CONTENT for word in re.findall(r"\w+", draft.answer.lower())):
        return False
    collected.reject("answer_without_content")
    return True
