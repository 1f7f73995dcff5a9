"""Prompt and answer: the unit that is compared, whether of the training set or of the traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from monitoring.call import LoggedCall, Prompt, joined_text, message_text
from training.data.schema.rows import (
    CompletionRow,
    DialogueRow,
    PreferenceRow,
    PromptRow,
    RankingRow,
    Row,
    TextRow,
    UnpairedRow,
)


@dataclass(frozen=True, slots=True)
class PromptAnswer:
    """Prompt and answer.

    Attributes:
        prompt: Text, or messages.
        answer: The answer; None if there is none.
    """

    prompt: Prompt
    answer: str | None = None

    @property
    def prompt_text(self) -> str:
        """Text of the prompt: all messages, one below the other."""
        return joined_text(self.prompt)

    @property
    def question(self) -> str:
        """The last message of a conversation, or the text."""
        return self.prompt if isinstance(self.prompt, str) else message_text(self.prompt[-1])


def pair_of_call(call: LoggedCall) -> PromptAnswer:
    """Return the pair of a logged call."""
    return PromptAnswer(call.prompt, call.answer)


def pairs_of_row(row: Row) -> Iterator[PromptAnswer]:
    """Yield the pairs of a training row: of a conversation, one for each answer.

    A text without a prompt is compared with prompts: it is what the model has learned to read.
    """
    if isinstance(row, TextRow):
        yield PromptAnswer(row.text)
    elif isinstance(row, DialogueRow):
        for number, message in enumerate(row.messages):
            if message["role"] == "assistant" and number >= max(1, row.answers_from):
                yield PromptAnswer(row.messages[:number], message_text(message))
    elif isinstance(row, CompletionRow):
        yield PromptAnswer(_with_system(row.system, row.prompt), row.completion)
    elif isinstance(row, PromptRow):
        yield PromptAnswer(row.prompt)
    elif isinstance(row, UnpairedRow):
        answer = joined_text(row.completion) if row.label else None
        yield PromptAnswer(_with_system(row.system, row.prompt), answer)
    elif isinstance(row, PreferenceRow):
        yield PromptAnswer(_with_system(row.system, row.prompt), joined_text(row.chosen))
    elif isinstance(row, RankingRow):
        best = row.pairs[0].chosen if row.pairs else 0
        yield PromptAnswer(_with_system(row.system, row.prompt), joined_text(row.answers[best]))


def _with_system(system: str, prompt: Prompt) -> Prompt:
    if not system or not isinstance(prompt, str):
        return prompt
    return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
