"""Completions of texts: https://platform.openai.com/docs/api-reference/completions.

With `echo` and `logprobs`, the log-probabilities of the prompt's own tokens are reported, as
evaluation harnesses request them.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from serving.engine.requests import AnswerPart
from serving.engine.sampling import TokenLogProb
from serving.errors import RequestError
from serving.model import PromptFormat, ServedModel
from serving.protocol.fields import MAX_TOP_LOG_PROBS, SharedFields
from serving.protocol.prepared import (
    PreparedAnswer,
    PreparedRequest,
    answer_length,
    select_format,
)
from training.judges.local_generator import prompt_seed

_DEFAULT_TOKENS = 16
_MAX_PROMPTS = 256
Prompts = str | list[str] | list[int] | list[list[int]]


class CompletionRequest(SharedFields):
    """Body of a completion."""

    prompt: Prompts
    max_tokens: int | None = Field(default=None, ge=0)
    logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOG_PROBS)
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None

    @field_validator("best_of", "suffix")
    @classmethod
    def _not_implemented_here(cls, value: Any) -> Any:
        if value not in (None, "", 1):
            raise ValueError("is not implemented. Leave it out")
        return value


def prepare_completion(served: ServedModel, body: CompletionRequest) -> PreparedRequest:
    """Return the requests to the engine for a completion.

    Raises:
        RequestError: The model does not exist, or a prompt is invalid or does not fit.
    """
    form = select_format(served, body.model)
    requested = _DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens
    if not requested and not body.echo:
        raise RequestError("max_tokens is 0, which needs echo: true", param="max_tokens")
    if body.echo and body.logprobs is not None and not served.scores_prompts:
        raise RequestError(
            "this engine does not report the log-probabilities of a prompt, which echo with "
            "logprobs asks for: leave one of them out, or serve with --engine transformers",
            param="echo",
        )
    answers, total = [], 0
    prompt_top = body.logprobs if body.echo else None
    for prompt in _prompts(body.prompt):
        ids = _ids(form, prompt)
        length = answer_length(served, ids, requested, "prompt")
        total += len(ids)
        for choice in range(body.choices):
            settings = body.answer_settings(
                choice, prompt_seed(prompt), length, body.logprobs, prompt_top
            )
            answers.append(PreparedAnswer(ids, settings))
    return PreparedRequest(body.model or served.name, form, answers, total)


def _prompts(value: Prompts) -> list[Any]:
    """Return the prompts of a request: texts, or lists of token ids.

    Raises:
        RequestError: There are none, or too many.
    """
    if isinstance(value, str) or (value and isinstance(value[0], int)):
        return [value]
    prompts = list(value)
    if not prompts or len(prompts) > _MAX_PROMPTS:
        raise RequestError(
            f"prompt has {len(prompts)} prompts; a request has from 1 to {_MAX_PROMPTS}",
            param="prompt",
        )
    return prompts


def _ids(form: PromptFormat, prompt: str | list[int]) -> list[int]:
    return list(form.tokenizer(prompt)["input_ids"]) if isinstance(prompt, str) else prompt


def echo_texts(prepared: PreparedRequest, body: CompletionRequest) -> list[str | None]:
    """Return the text that precedes each answer; None if it is not requested.

    Args:
        prepared: The request as requests to the engine.
        body: Its body.
    """
    if not body.echo:
        return [None] * len(prepared.answers)
    decode = prepared.format.tokenizer.decode
    texts = [p if isinstance(p, str) else str(decode(p)) for p in _prompts(body.prompt)]
    return [text for text in texts for _ in range(body.choices)]


def completion_choice(
    form: PromptFormat, index: int, prompt: list[int], echo: str | None, parts: list[AnswerPart]
) -> dict[str, Any]:
    """Return a choice of an answer, or of a part of it.

    Args:
        form: Form of the model's prompts.
        index: Number of the choice.
        prompt: Token ids of its prompt.
        echo: Text of the prompt that precedes the answer; None if it is not requested.
        parts: Parts of the answer.
    """
    text = (echo or "") + "".join(part.text for part in parts)
    found: list[TokenLogProb | int] = [one for part in parts for one in part.log_probs]
    if echo is not None and (in_prompt := parts[0].prompt_log_probs):
        found = [prompt[0], *in_prompt, *found]
    elif echo is not None and len(prompt) == 1 and found:
        found = [prompt[0], *found]
    return {
        "index": index,
        "text": text,
        "logprobs": _log_probs(form, found) if found else None,
        "finish_reason": parts[-1].finish_reason,
    }


def _log_probs(form: PromptFormat, found: list[TokenLogProb | int]) -> dict[str, Any]:
    """Return log-probabilities as columns; nothing precedes the first token of a prompt."""
    texts = form.token_texts
    columns: dict[str, list[Any]] = {
        name: [] for name in ("text_offset", "token_logprobs", "tokens", "top_logprobs")
    }
    offset = 0
    for one in found:
        token = one if isinstance(one, int) else one.token
        columns["tokens"].append(texts[token])
        columns["text_offset"].append(offset)
        offset += len(texts[token])
        if isinstance(one, int):
            columns["token_logprobs"].append(None)
            columns["top_logprobs"].append(None)
            continue
        columns["token_logprobs"].append(one.log_prob)
        top = {texts[other]: value for other, value in reversed(one.top)}
        top.setdefault(texts[token], one.log_prob)
        columns["top_logprobs"].append(top)
    return dict(columns)
