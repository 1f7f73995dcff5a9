"""Bodies of requests and responses, in the protocols of endpoints and of Bedrock.

OpenAI's protocol (also as a stream of server-sent events), Converse, and the bodies of Llama,
Mistral, Anthropic, Nova and Titan models on Bedrock:
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitoring.call import Message, message_text

_CUT = frozenset(("length", "max_tokens", "model_length", "LENGTH"))


@dataclass(frozen=True, slots=True)
class AnswerBody:
    """Answer in the body of a response.

    Attributes:
        text: Its text.
        finish_reason: Reason for its end; None if the body does not say.
        prompt_tokens: Tokens of the prompt; None if the body does not say.
        answer_tokens: Tokens of the answer; None if the body does not say.
        model: Model that answered, as the body names it.
        latency_s: Seconds that the body states; None if it does not.
    """

    text: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    model: str | None = None
    latency_s: float | None = None


def read_prompt(body: Any) -> str | Sequence[Message] | None:
    """Return the prompt in the body of a request; None if it has none."""
    if not isinstance(body, Mapping):
        return None
    messages = body.get("messages")
    if isinstance(messages, list) and messages and all(isinstance(m, Mapping) for m in messages):
        system = [{"role": "system", "content": text} for text in _system_texts(body)]
        return [*system, *({**m, "content": message_text(m)} for m in messages)]
    prompt = body.get("prompt", body.get("inputText", body.get("inputs")))
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    return prompt if isinstance(prompt, str) else None


def _system_texts(body: Mapping[str, Any]) -> Iterable[str]:
    """Yield the system messages of Converse and of Anthropic's protocol."""
    system = body.get("system")
    if isinstance(system, str):
        yield system
    elif isinstance(system, list):
        text = message_text({"content": system})
        if text:
            yield text


def read_answers(body: Any) -> list[AnswerBody]:
    """Return the answers in the body of a response: none if there is none that is known."""
    if isinstance(body, str):
        return _read_text(body)
    if isinstance(body, list):
        return _joined_stream(body)
    if not isinstance(body, Mapping):
        return []
    if isinstance(body.get("choices"), list):
        return _of_openai(body)
    text, reason = _text_and_reason(body)
    if text is None:
        return []
    sent, received = _usage(body)
    model = body.get("model")
    return [
        AnswerBody(
            text,
            normal_reason(reason),
            sent,
            received,
            model if isinstance(model, str) else None,
            _latency(body),
        )
    ]


def normal_reason(reason: Any) -> str | None:
    """Return the reason for the end of an answer, with `length` for every name of a cut."""
    if not isinstance(reason, str):
        return None
    return "length" if reason in _CUT else reason


def _read_text(body: str) -> list[AnswerBody]:
    """Return the answers in the text of a body: JSON, or server-sent events."""
    # Events end with a line feed; `splitlines` would also cut texts at U+2028.
    lines = [line for line in body.split("\n") if line.strip()]
    if lines and lines[0].startswith("data:"):
        events = []
        for line in lines:
            data = line.removeprefix("data:").strip()
            if data != "[DONE]":
                try:
                    events.append(json.loads(data))
                except ValueError:
                    continue
        return _joined_stream(events)
    try:
        return read_answers(json.loads(body))
    except ValueError:
        return []


def _of_openai(body: Mapping[str, Any]) -> list[AnswerBody]:
    sent, received = _usage(body)
    choices = [choice for choice in body["choices"] if isinstance(choice, Mapping)]
    model = body.get("model")
    answers = []
    for choice in choices:
        message = choice.get("message")
        text = message_text(message) if isinstance(message, Mapping) else choice.get("text")
        if isinstance(text, str):
            # The usage is that of all choices together.
            tokens = received if len(choices) == 1 else None
            reason = normal_reason(choice.get("finish_reason"))
            name = model if isinstance(model, str) else None
            answers.append(AnswerBody(text, reason, sent, tokens, name))
    return answers


def _text_and_reason(body: Mapping[str, Any]) -> tuple[str | None, Any]:
    """Return text and reason of the body of a model of Bedrock, or of Converse."""
    output = body.get("output")
    if isinstance(output, Mapping) and isinstance(output.get("message"), Mapping):
        return message_text(output["message"]), body.get("stopReason")
    if isinstance(body.get("generation"), str):
        return body["generation"], body.get("stop_reason")
    for key in ("outputs", "results"):
        entries = body.get(key)
        if isinstance(entries, list) and entries and isinstance(entries[0], Mapping):
            first = entries[0]
            text = first.get("text", first.get("outputText"))
            if isinstance(text, str):
                return text, first.get("stop_reason", first.get("completionReason"))
    if isinstance(body.get("content"), list):
        return message_text(body), body.get("stop_reason")
    text = body.get("completion", body.get("generated_text"))
    return (text if isinstance(text, str) else None), body.get("stop_reason")


def _usage(body: Mapping[str, Any]) -> tuple[int | None, int | None]:
    usage = body.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    sent = _first_int(usage, "prompt_tokens", "inputTokens", "input_tokens")
    received = _first_int(usage, "completion_tokens", "outputTokens", "output_tokens")
    return (
        sent if sent is not None else _first_int(body, "prompt_token_count"),
        received if received is not None else _first_int(body, "generation_token_count"),
    )


def _first_int(values: Mapping[str, Any], *names: str) -> int | None:
    return next((values[name] for name in names if isinstance(values.get(name), int)), None)


def _joined_stream(events: Sequence[Any]) -> list[AnswerBody]:
    """Return the answers whose parts are the events of a stream."""
    events = [event for event in events if isinstance(event, Mapping)]
    if any(isinstance(event.get("choices"), list) for event in events):
        return _joined_openai(events)
    text, reason = "", None
    usage: tuple[int | None, int | None] = (None, None)
    latency: float | None = None
    seen = False
    for event in events:
        delta = event.get("contentBlockDelta", event).get("delta")
        if isinstance(delta, Mapping) and isinstance(delta.get("text"), str):
            text, seen = text + delta["text"], True
        if isinstance(event.get("messageStop"), Mapping):
            reason = event["messageStop"].get("stopReason")
        if isinstance(event.get("metadata"), Mapping):
            usage = _usage(event["metadata"])
            latency = _latency(event["metadata"])
        part, end = _text_and_reason(event)
        if part is not None:
            text, reason, seen = text + part, end or reason, True
    return [AnswerBody(text, normal_reason(reason), *usage, None, latency)] if seen else []


def _latency(body: Mapping[str, Any]) -> float | None:
    metrics = body.get("metrics")
    value = metrics.get("latencyMs") if isinstance(metrics, Mapping) else None
    return value / 1000 if isinstance(value, int | float) else None


def _joined_openai(events: Sequence[Mapping[str, Any]]) -> list[AnswerBody]:
    texts: dict[int, str] = {}
    reasons: dict[int, str | None] = {}
    usage: tuple[int | None, int | None] = (None, None)
    model: str | None = None
    for event in events:
        if isinstance(event.get("usage"), Mapping):
            usage = _usage(event)
        model = event["model"] if isinstance(event.get("model"), str) else model
        for choice in event.get("choices") or ():
            index = int(choice.get("index") or 0)
            delta = choice.get("delta")
            part = delta.get("content") if isinstance(delta, Mapping) else choice.get("text")
            texts[index] = texts.get(index, "") + (part or "")
            reasons[index] = normal_reason(choice.get("finish_reason")) or reasons.get(index)
    received = usage[1] if len(texts) == 1 else None
    return [
        AnswerBody(text, reasons[index], usage[0], received, model)
        for index, text in sorted(texts.items())
    ]
