"""Requests to the engine that one HTTP request makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.engine.requests import AnswerSettings
from serving.errors import RequestError
from serving.model import PromptFormat, ServedModel


@dataclass(frozen=True)
class PreparedAnswer:
    """Answer to be generated.

    Attributes:
        prompt: Token ids of its prompt.
        settings: Its settings.
    """

    prompt: list[int]
    settings: AnswerSettings


@dataclass(frozen=True)
class PreparedRequest:
    """HTTP request as requests to the engine.

    Attributes:
        model: Name of the model or adapter, as the answer states it.
        format: Form of its prompts.
        answers: The answers, in order.
        prompt_tokens: Tokens of all prompts.
    """

    model: str
    format: PromptFormat
    answers: Sequence[PreparedAnswer]
    prompt_tokens: int


def select_format(served: ServedModel, name: str | None) -> PromptFormat:
    """Return the form of prompts of the adapter, or the model itself, that a request names.

    Args:
        served: The model.
        name: Name in the request.

    Raises:
        RequestError: There is no such model.
    """
    key = None if name == served.name else name
    if (found := served.formats.get(key)) is not None:
        return found
    known = ", ".join((served.name, *served.adapters))
    raise RequestError(f"the model {name!r} does not exist. Served: {known}", 404, "model")


def answer_length(
    served: ServedModel, prompt: Sequence[int], requested: int | None, field: str
) -> int:
    """Return the longest answer to a prompt, in tokens.

    Args:
        served: The model.
        prompt: Token ids of the prompt.
        requested: Longest answer that was requested; None for what the context leaves.
        field: Field of the request that holds the prompt.

    Raises:
        RequestError: The prompt is empty, has a token that the model does not read, or does not fit
            the context with its answer.
    """
    if not prompt:
        raise RequestError("the prompt is empty: it has no token", param=field)
    for token in prompt:
        if not 0 <= token < served.vocabulary:
            raise RequestError(
                f"the token id {token} does not exist: the model reads ids below "
                f"{served.vocabulary}",
                param=field,
            )
    room = served.context - len(prompt)
    least = 1 if requested is None else requested
    if room < least:
        of_answer = (
            "at least 1 of the answer" if requested is None else f"{requested} of max_tokens"
        )
        fix = "" if requested is None else ", or lower max_tokens"
        raise RequestError(
            f"this model's context is {served.context} tokens, and the request needs "
            f"{len(prompt) + least}: {len(prompt)} of the prompt and {of_answer}. Shorten the "
            f"prompt{fix}",
            param=field,
        )
    return room if requested is None else requested
