"""Bodies of Bedrock's inference: InvokeModel's formats for imported models, and Converse.

Imported models take three formats ("Invoke your imported model", Bedrock User Guide): a completion
in Bedrock's own format, recognized here by its `max_gen_len`, and the two of OpenAI.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from emulator.request_validation import reject

CHAT, _COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_SHARED = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p"}


@dataclass(frozen=True)
class InvokeBody:
    """Body of an InvokeModel request.

    Attributes:
        path: Path of the model's server that answers it.
        request: Body for that path.
        own_format: Whether the answer has Bedrock's own format.
    """

    path: str
    request: dict[str, Any]
    own_format: bool = False

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> InvokeBody:
        """Return the body of a JSON object.

        Raises:
            RequestRejected: It has none of the formats.
        """
        fields = {key: value for key, value in document.items() if key != "model"}
        if "messages" in fields:
            return cls(CHAT, fields)
        if "prompt" not in fields:
            reject("Malformed input request: neither prompt nor messages is given")
        if "max_gen_len" not in fields:
            return cls(_COMPLETIONS, fields)
        length = fields.pop("max_gen_len")
        return cls(_COMPLETIONS, {**fields, "max_tokens": length}, own_format=True)

    def document(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return the answer in the format of the request."""
        if not self.own_format:
            return answer
        usage, choice = answer["usage"], answer["choices"][0]
        return {
            "generation": choice["text"],
            "prompt_token_count": usage["prompt_tokens"],
            "generation_token_count": usage["completion_tokens"],
            "stop_reason": choice["finish_reason"],
        }

    def answer(self, answer: dict[str, Any]) -> bytes:
        """Return the body of the response."""
        return json.dumps(self.document(answer)).encode()

    def parts(self, events: Iterable[dict[str, Any]]) -> Iterator[bytes]:
        """Yield the chunks of a streamed response."""
        for event in events:
            if not self.own_format:
                yield json.dumps(event).encode()
            elif event["choices"]:
                choice = event["choices"][0]
                part = {"generation": choice["text"], "stop_reason": choice["finish_reason"]}
                yield json.dumps(part).encode()


def read_invoke_body(body: bytes) -> InvokeBody:
    """Return the body of an InvokeModel request.

    Raises:
        RequestRejected: It is not a JSON object of a known format.
    """
    try:
        document = json.loads(body)
    except ValueError:
        reject("Malformed input request: the body is not JSON")
    if not isinstance(document, dict):
        reject("Malformed input request: the body is no JSON object")
    return InvokeBody.from_document(document)


def chat_body(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a chat completion for a Converse request.

    Raises:
        RequestRejected: The request has no messages, or other content than text.
    """
    if request.get("toolConfig") or request.get("guardrailConfig"):
        reject("toolConfig and guardrailConfig are not emulated")
    if not request.get("messages"):
        reject("A conversation must have at least one message")
    system = [{"role": "system", "content": _text([b])} for b in request.get("system", ())]
    messages = [
        {"role": message["role"], "content": _text(message["content"])}
        for message in request["messages"]
    ]
    config = request.get("inferenceConfig", {})
    settings = {ours: config[theirs] for theirs, ours in _SHARED.items() if theirs in config}
    if stops := config.get("stopSequences"):
        settings["stop"] = stops
    more = request.get("additionalModelRequestFields", {})
    return {"messages": [*system, *messages], **settings, **more}


def _text(blocks: list[dict[str, Any]]) -> str:
    if any(set(block) != {"text"} for block in blocks):
        reject("only text is emulated in messages")
    return "".join(block["text"] for block in blocks)


def converse_answer(answer: Mapping[str, Any], latency_ms: int) -> dict[str, Any]:
    """Return the response of Converse for a chat completion."""
    choice = answer["choices"][0]
    message = {"role": "assistant", "content": [{"text": choice["message"]["content"]}]}
    return {
        "output": {"message": message},
        "stopReason": _STOP_REASONS[choice["finish_reason"]],
        "usage": _usage(answer["usage"]),
        "metrics": {"latencyMs": latency_ms},
    }


def converse_events(events: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the events of ConverseStream for those of a chat completion."""
    yield {"messageStart": {"role": "assistant"}}
    reason = "end_turn"
    usage: Mapping[str, int] = {}
    for event in events:
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            if text := choice["delta"].get("content"):
                yield {"contentBlockDelta": {"delta": {"text": text}, "contentBlockIndex": 0}}
            reason = _STOP_REASONS.get(choice.get("finish_reason"), reason)
    yield {"contentBlockStop": {"contentBlockIndex": 0}}
    yield {"messageStop": {"stopReason": reason}}
    yield {"metadata": {"usage": _usage(usage), "metrics": {"latencyMs": 0}}}


def _usage(usage: Mapping[str, int]) -> dict[str, int]:
    return {
        "inputTokens": usage["prompt_tokens"],
        "outputTokens": usage["completion_tokens"],
        "totalTokens": usage["total_tokens"],
    }
