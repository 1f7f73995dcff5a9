"""Pipeline of Constitutional AI: from prompts to revised answers or to preference pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from training.config import Job
from training.config.constitutional import Constitutional
from training.data.schema.rows import PromptRow
from training.judges.base import Judge, JudgeUsage, ask
from training.judges.local_generator import LocalGenerator, Prompt
from training.methods.common.generated_rows import format_completion
from training.methods.constitutional import prompt_templates


class ConstitutionalPipeline:
    """Pipeline that turns prompts into rows.

    Args:
        job: Job with the constitution.
        generator: Model that answers the prompts.
        judge: Criticizes, revises and compares answers.
        usage: Counts of the judge's replies, which are updated.
    """

    def __init__(self, job: Job, generator: LocalGenerator, judge: Judge, usage: JudgeUsage):
        assert isinstance(job.method, Constitutional)
        self._method = job.method
        self._seed = job.train.seed
        self._max_length = job.data.max_length
        self._generator = generator
        self._judge = judge
        self._usage = usage

    def process(self, prompts: Sequence[PromptRow], first_number: int) -> Iterator[dict[str, Any]]:
        """Yield the journal line of each prompt.

        Args:
            prompts: A chunk of all prompts.
            first_number: Position of the first of them among all prompts.
        """
        process = self._pairs if self._method.writes == "preferences" else self._revisions
        fits = [self._generator.length(row.prompt) <= self._max_length for row in prompts]
        numbered = [(row, first_number + n) for n, row in enumerate(prompts) if fits[n]]
        lines = iter(process([row for row, _ in numbered], [n for _, n in numbered]))
        for row, fit in zip(prompts, fits, strict=True):
            why = f"the prompt is longer than data.max_length ({self._max_length})"
            yield next(lines) if fit else {"id": row.id, "row": None, "why": why}

    def _generate(self, prompts: Sequence[Prompt], draw: int) -> list[str]:
        rollout = self._method.rollout
        return self._generator.generate(
            prompts,
            max_new_tokens=rollout.max_new_tokens,
            temperature=rollout.temperature,
            draw=draw,
        )

    def _principle_index(self, number: int, turn: int) -> int:
        """Return the principle of a prompt in a turn.

        The first is drawn by seed and prompt; each turn takes the next, so that no principle
        repeats until all were used.
        """
        name = f"{self._seed}/{number}".encode()
        start = int.from_bytes(hashlib.sha256(name).digest()[:8], "big")
        return (start + turn) % len(self._method.constitution.principles)

    def _ask(self, questions: Any, parse: Any, reminder: str) -> list[Any]:
        return ask(
            self._judge,
            questions,
            parse,
            reminder=reminder,
            retries=self._method.judge.retries,
            usage=self._usage,
        )

    def _revisions(
        self, prompts: Sequence[PromptRow], numbers: Sequence[int]
    ) -> Iterator[dict[str, Any]]:
        first_answers = self._generate([row.prompt for row in prompts], 0)
        answers: list[str | None] = list(first_answers)
        for turn in range(self._method.turns):
            answers = self._revise(prompts, numbers, answers, turn)
        turns = range(self._method.turns)
        for index, row in enumerate(prompts):
            used = [self._name(self._principle_index(numbers[index], turn)) for turn in turns]
            line = {"id": row.id, "principles": used, "answer": first_answers[index]}
            answer = answers[index]
            if answer is None:
                yield {**line, "row": None, "why": "the judge gave no usable revision"}
            else:
                completion = format_completion(row, answer)
                yield {**line, "row": {"prompt": row.prompt, "completion": completion}}

    def _revise(
        self,
        prompts: Sequence[PromptRow],
        numbers: Sequence[int],
        answers: Sequence[str | None],
        turn: int,
    ) -> list[str | None]:
        """Return the answers after one critique and revision; None for those that failed."""
        principles = self._method.constitution.principles
        pending = [index for index, answer in enumerate(answers) if answer is not None]
        drawn = {i: principles[self._principle_index(numbers[i], turn)] for i in pending}
        questions = [
            prompt_templates.critique_question(prompts[i].prompt, str(answers[i]), drawn[i])
            for i in pending
        ]
        critiques = self._ask(
            questions, prompt_templates.parse_critique, prompt_templates.CRITIQUE_REMINDER
        )
        to_revise = [
            (index, prompt_templates.revision_question(question, critique, drawn[index]))
            for index, question, critique in zip(pending, questions, critiques, strict=True)
            if critique is not None
        ]
        revisions = self._ask(
            [question for _, question in to_revise],
            prompt_templates.parse_revision,
            prompt_templates.REVISION_REMINDER,
        )
        revised = dict(zip([index for index, _ in to_revise], revisions, strict=True))
        return [revised.get(index) for index in range(len(prompts))]

    def _pairs(
        self, prompts: Sequence[PromptRow], numbers: Sequence[int]
    ) -> Iterator[dict[str, Any]]:
        texts = [row.prompt for row in prompts]
        pairs = list(zip(self._generate(texts, 0), self._generate(texts, 1), strict=True))
        votes = self._vote(texts, pairs, numbers)
        for index, row in enumerate(prompts):
            one, other = pairs[index]
            line: dict[str, Any] = {"id": row.id, "answers": [one, other]}
            if index not in votes:
                why = "both the same" if one and other else "an answer was empty"
                yield {**line, "row": None, "why": why}
                continue
            principle = self._name(self._principle_index(numbers[index], 0))
            line |= {"principles": [principle], "votes": list(votes[index])}
            # In the second question the answers are swapped: B is the first answer there.
            consistent: dict[tuple[str | None, str | None], int] = {("A", "B"): 0, ("B", "A"): 1}
            better = consistent.get(votes[index])
            if better is None:
                unusable = None in votes[index]
                why = "the judge gave no usable choice" if unusable else "the judge chose by order"
                yield {**line, "row": None, "why": why}
                continue
            chosen, rejected = (one, other)[:: -1 if better else 1]
            pair = {
                "chosen": format_completion(row, chosen),
                "rejected": format_completion(row, rejected),
            }
            yield {**line, "row": {"prompt": row.prompt, **pair}}

    def _vote(
        self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]], numbers: Sequence[int]
    ) -> dict[int, tuple[str | None, str | None]]:
        """Return the judge's choices in both orders, for pairs of two different answers.

        Judges prefer the answer in one position. A pair counts only if the choice is the same
        answer in both orders.
        """
        principles = self._method.constitution.principles
        indices = [i for i, (one, other) in enumerate(pairs) if one and other and one != other]
        questions = []
        for index in indices:
            (a, b), principle = pairs[index], principles[self._principle_index(numbers[index], 0)]
            prompt = prompts[index]
            questions.append(prompt_templates.comparison_question(prompt, a, b, principle))
            questions.append(prompt_templates.comparison_question(prompt, b, a, principle))
        choices = self._ask(
            questions, prompt_templates.parse_choice, prompt_templates.CHOICE_REMINDER
        )
        return dict(zip(indices, zip(choices[::2], choices[1::2], strict=True), strict=True))

    def _name(self, number: int) -> str:
        return self._method.constitution.name_of(number)
