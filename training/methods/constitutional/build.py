"""Answer prompts, let a judge work on the answers by the principles, write rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from training.config import Job
from training.config.constitutional import Constitutional
from training.console import say
from training.data.schema.rows import PromptRow
from training.judges.base import Judge, JudgeContext, JudgeUsage, ask, build_judge
from training.judges.http_client import HttpJudge
from training.judges.local_generator import LocalGenerator, Prompt
from training.methods.common.generated_rows import (
    answerer_of,
    check_price,
    hand_on,
    in_form_of,
    prompts_of,
    written,
)
from training.methods.common.row_journal import RowJournal
from training.methods.constitutional import prompt_templates
from training.run_folder import RunFolder
from training.trainer.distributed import detect_world

REPORT = "constitution.json"
_AT_ONCE = 32
"""Prompts taken on together."""
_CHARACTERS_A_TOKEN = 4
_QUESTION_CHARACTERS = 600
"""Of the words around a question and its answers."""


def write(job: Job, folder: RunFolder) -> None:
    """Write the rows of a job into its folder, going on where it was stopped.

    Raises:
        DataError: The prompts cannot be read, or no row came of any.
        RunError: The judge fails, or would cost more than the job allows.
        ModelError: The model cannot be read, or its context is too short.
    """
    method = job.method
    assert isinstance(method, Constitutional)
    prompts = prompts_of(job)
    journal = RowJournal(folder.path, "judged.jsonl")
    journal.check([row.id for row in prompts])
    answerer = answerer_of(job)
    judge = build_judge(
        method.judge,
        JudgeContext(
            device=detect_world().device,
            folder=folder.path,
            cache=folder.cache,
            max_cost_usd=job.resources.max_cost,
            own_generator=lambda: answerer,
        ),
    )
    left = prompts[len(journal.lines) :]
    _price(job, judge, left)
    count = JudgeUsage()
    workshop = ConstitutionalPipeline(job, answerer, judge, count)
    for first in range(0, len(left), _AT_ONCE):
        number = len(journal.lines)
        journal.add(list(workshop.worked(left[first : first + _AT_ONCE], number)))
        say(_progress(journal, len(prompts), judge))
    _conclude(job, folder, journal, count, judge)


class ConstitutionalPipeline:
    """Turns prompts into rows.

    Args:
        job: The run.
        answerer: The model.
        judge: Who is asked.
        count: Of what was asked.
    """

    def __init__(self, job: Job, answerer: LocalGenerator, judge: Judge, count: JudgeUsage):
        assert isinstance(job.method, Constitutional)
        self._method = job.method
        self._seed = job.train.seed
        self._max_length = job.data.max_length
        self._answerer = answerer
        self._judge = judge
        self._count = count

    def worked(self, prompts: Sequence[PromptRow], number: int) -> Iterator[dict[str, Any]]:
        """Yield what came of each prompt.

        Args:
            prompts: A part of all.
            number: Of the first of them.
        """
        work = self._pairs if self._method.writes == "preferences" else self._revisions
        fits = [self._answerer.length(row.prompt) <= self._max_length for row in prompts]
        numbered = [(row, number + n) for n, row in enumerate(prompts) if fits[n]]
        found = iter(work([row for row, _ in numbered], [n for _, n in numbered]))
        for row, fit in zip(prompts, fits, strict=True):
            why = f"the prompt is longer than data.max_length ({self._max_length})"
            yield next(found) if fit else {"id": row.id, "row": None, "why": why}

    def _answers(self, prompts: Sequence[Prompt], draw: int) -> list[str]:
        how = self._method.rollout
        return self._answerer.generate(
            prompts, max_new_tokens=how.max_new_tokens, temperature=how.temperature, draw=draw
        )

    def _principle(self, number: int, turn: int) -> int:
        """Return the principle that a prompt meets in a turn: another one in each, if there are."""
        name = f"{self._seed}/{number}".encode()
        start = int.from_bytes(hashlib.sha256(name).digest()[:8], "big")
        return (start + turn) % len(self._method.constitution.principles)

    def _ask(self, questions: Any, read: Any, wanted: str) -> list[Any]:
        retries = self._method.judge.retries
        return ask(
            self._judge, questions, read, reminder=wanted, retries=retries, usage=self._count
        )

    def _revisions(
        self, prompts: Sequence[PromptRow], numbers: Sequence[int]
    ) -> Iterator[dict[str, Any]]:
        principles = self._method.constitution.principles
        first = self._answers([row.prompt for row in prompts], 0)
        answers: list[str | None] = list(first)
        for turn in range(self._method.turns):
            open_ = [place for place, answer in enumerate(answers) if answer is not None]
            drawn = {place: principles[self._principle(numbers[place], turn)] for place in open_}
            questions = [
                prompt_templates.critique(prompts[p].prompt, str(answers[p]), drawn[p])
                for p in open_
            ]
            said = self._ask(questions, prompt_templates.read_critique, "Say what could be better.")
            both = list(zip(open_, questions, said, strict=True))
            told = [
                (p, prompt_templates.revision(q, s, drawn[p])) for p, q, s in both if s is not None
            ]
            revised = self._ask(
                [question for _, question in told],
                prompt_templates.read_revision,
                prompt_templates.REVISED_WANTED,
            )
            found = dict(zip([place for place, _ in told], revised, strict=True))
            answers = [found.get(place) for place in range(len(prompts))]
        for place, (row, before, answer) in enumerate(zip(prompts, first, answers, strict=True)):
            turns = range(self._method.turns)
            used = [self._name(self._principle(numbers[place], turn)) for turn in turns]
            line = {"id": row.id, "principles": used, "answer": before}
            if answer is None:
                yield {**line, "row": None, "why": "the judge gave no usable revision"}
            else:
                yield {**line, "row": {"prompt": row.prompt, "completion": in_form_of(row, answer)}}

    def _pairs(
        self, prompts: Sequence[PromptRow], numbers: Sequence[int]
    ) -> Iterator[dict[str, Any]]:
        principles = self._method.constitution.principles
        asked_of = [row.prompt for row in prompts]
        one, other = self._answers(asked_of, 0), self._answers(asked_of, 1)
        open_ = [place for place in range(len(prompts)) if one[place] and other[place]]
        open_ = [place for place in open_ if one[place] != other[place]]
        drawn = {place: self._principle(numbers[place], 0) for place in open_}
        questions = []
        for place in open_:
            a, b, principle = one[place], other[place], principles[drawn[place]]
            questions.append(prompt_templates.comparison(asked_of[place], a, b, principle))
            questions.append(prompt_templates.comparison(asked_of[place], b, a, principle))
        said = self._ask(questions, prompt_templates.read_choice, prompt_templates.CHOSEN_WANTED)
        votes = dict(zip(open_, zip(said[::2], said[1::2], strict=True), strict=True))
        for place, row in enumerate(prompts):
            line = {"id": row.id, "answers": [one[place], other[place]]}
            if place not in votes:
                why = (
                    "an answer was empty" if not (one[place] and other[place]) else "both the same"
                )
                yield {**line, "row": None, "why": why}
                continue
            line |= {"principles": [self._name(drawn[place])], "votes": list(votes[place])}
            # B in the second order is the first answer.
            better = {("A", "B"): 0, ("B", "A"): 1}.get(votes[place])
            if better is None:
                why = (
                    "the judge gave no usable choice"
                    if None in votes[place]
                    else "the judge chose by the order"
                )
                yield {**line, "row": None, "why": why}
                continue
            chosen, rejected = (one[place], other[place])[:: -1 if better else 1]
            pair = {"chosen": in_form_of(row, chosen), "rejected": in_form_of(row, rejected)}
            yield {**line, "row": {"prompt": row.prompt, **pair}}

    def _name(self, number: int) -> str:
        return self._method.constitution.name_of(number)


def _price(job: Job, judge: Judge, left: Sequence[PromptRow]) -> None:
    """Say what the judge may cost before it is asked.

    Raises:
        RunError: More than the job allows.
    """
    method = job.method
    assert isinstance(method, Constitutional)
    if not isinstance(judge, HttpJudge) or not left:
        return
    calls = len(left) * 2 * method.turns
    answers = 2 * _CHARACTERS_A_TOKEN * method.rollout.max_new_tokens
    if method.writes == "revisions":
        answers += 2 * _CHARACTERS_A_TOKEN * method.judge.max_new_tokens
    prompt = sum(len(written(row.prompt)) for row in left) / len(left)
    check_price(job, judge, len(left), calls, int(prompt) + answers + _QUESTION_CHARACTERS)


def _progress(journal: RowJournal, prompts: int, judge: Judge) -> str:
    spent = f", {judge.ledger.spent['usd']:.4f} USD" if isinstance(judge, HttpJudge) else ""
    return f"{len(journal.lines):,} of {prompts:,} prompts judged, {journal.kept:,} kept{spent}"


def _conclude(
    job: Job, folder: RunFolder, journal: RowJournal, count: JudgeUsage, judge: Judge
) -> None:
    """Write the rows and what became of all prompts.

    Raises:
        DataError: No row came of any.
    """
    method = job.method
    assert isinstance(method, Constitutional)
    chosen = [line["votes"] for line in journal.lines if "votes" in line]
    principles = Counter(p for line in journal.lines if line["row"] for p in line["principles"])
    report = {
        "writes": method.writes,
        "judge": method.judge.model_dump(mode="json", exclude_none=True),
        "principles": dict(principles.most_common()),
        "asked": count.to_json(),
        "spent": judge.ledger.spent if isinstance(judge, HttpJudge) else None,
    }
    if chosen:
        by_order = sum(a == b and a is not None for a, b in chosen)
        first = sum(vote == "A" for votes in chosen for vote in votes)
        given = sum(vote is not None for votes in chosen for vote in votes)
        report["by_order"] = by_order / len(chosen)
        report["chose_first"] = first / max(1, given)
    kept = f"judged.jsonl in {folder.path} has each answer"
    fix = f"{kept}; another judge, more tokens or other prompts would help"
    hand_on(journal, folder, REPORT, report, fix)
