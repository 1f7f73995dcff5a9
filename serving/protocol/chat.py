"""Chat completions: https://platform.openai.com/docs/api-reference/chat."""

from __future__ import annotations

from typing import Any, Literal

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
from training.data.schema.messages import read_messages, read_tools
from training.data.schema.rows import Message, RowError
from training.errors import DataError
from training.judges.local_generator import prompt_seed


class ChatRequest(SharedFields):
    """Body of a chat completion."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOG_PROBS)
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None

    @field_validator("response_format")
    @classmethod
    def _only_text(cls, value: Any) -> Any:
        if value and value.get("type") != "text":
            raise ValueError("is not implemented but for text. Leave it out")
        return value


def prepare_chat(served: ServedModel, body: ChatRequest) -> PreparedRequest:
    """Return the requests to the engine for a chat completion.

    Raises:
        RequestError: The model does not exist, the messages cannot be rendered, or they do not fit.
    """
    form = select_format(served, body.model)
    if form.rows.template is None:
        raise RequestError(
            f"the model {body.model or served.name} has no chat template. Use /v1/completions, or "
            f"serve a model that was trained with one"
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise RequestError("top_logprobs needs logprobs: true", param="top_logprobs")
    try:
        messages = read_messages(body.messages, "messages")
        tools = None if body.tool_choice == "none" else read_tools(body.tools)
        ids = form.rows.prompt_ids(messages, tools)
    except (RowError, DataError) as error:
        raise RequestError(str(error), param="messages") from None
    length = answer_length(served, ids, body.max_completion_tokens or body.max_tokens, "messages")
    top = (body.top_logprobs or 0) if body.logprobs else None
    seed = prompt_seed(messages)
    answers = [
        PreparedAnswer(ids, body.answer_settings(choice, seed, length, top))
        for choice in range(body.choices)
    ]
    return PreparedRequest(body.model or served.name, form, answers, len(ids))


def chat_choice(form: PromptFormat, index: int, parts: list[AnswerPart]) -> dict[str, Any]:
    """Return a choice of a complete answer.

    Args:
        form: Form of the model's prompts.
        index: Number of the choice.
        parts: All parts of its answer.
    """
    message: Message = {"role": "assistant", "content": "".join(part.text for part in parts)}
    return {
        "index": index,
        "message": message,
        "logprobs": _content_log_probs(form, parts),
        "finish_reason": parts[-1].finish_reason,
    }


def chat_delta(form: PromptFormat, index: int, part: AnswerPart, first: bool) -> dict[str, Any]:
    """Return a choice of a part of a streamed answer.

    Args:
        form: Form of the model's prompts.
        index: Number of the choice.
        part: The part.
        first: Whether it is the first one of the choice.
    """
    role = {"role": "assistant"} if first else {}
    return {
        "index": index,
        "delta": {**role, "content": part.text},
        "logprobs": _content_log_probs(form, [part]),
        "finish_reason": part.finish_reason,
    }


def _content_log_probs(form: PromptFormat, parts: list[AnswerPart]) -> dict[str, Any] | None:
    found = [log_prob for part in parts for log_prob in part.log_probs]
    if not found:
        return None
    return {"content": [_entry(form, log_prob) for log_prob in found]}


def _entry(form: PromptFormat, log_prob: TokenLogProb) -> dict[str, Any]:
    top = [_token(form, token, value) for token, value in log_prob.top]
    return {**_token(form, log_prob.token, log_prob.log_prob), "top_logprobs": top}


def _token(form: PromptFormat, token: int, log_prob: float) -> dict[str, Any]:
    texts = form.token_texts
    return {"token": texts[token], "logprob": log_prob, "bytes": list(texts.bytes_of(token))}
