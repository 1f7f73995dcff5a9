"""Model on Amazon Bedrock, called through the Converse API.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html. One class for
models of providers, imported models, custom-model deployments, provisioned throughput, inference
profiles and prompt routers: each is named by its id or ARN.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import httpx2

from account.bedrock_auth import bedrock_auth
from client.chat import AnswerDelta, ChatCall, ModelReply, TokenUsage
from client.endpoints.aws_access import aws_address
from client.endpoints.aws_stream import stream_events
from client.endpoints.base import ChatEndpoint, HttpCall
from client.errors import InvalidArgumentError
from client.prices import TokenRates

_ARN_REGION = re.compile(r"^arn:aws[\w-]*:bedrock:([a-z0-9-]+):")
_FINISH = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "tool_use": "tool_calls",
}
_TEXT_ROLES = ("user", "assistant")
_SYSTEM_ROLES = ("system", "developer")


@dataclass(frozen=True, slots=True)
class ConverseGuardrail:
    """Guardrail of Bedrock that the service applies to prompt and answer of a call.

    Attributes:
        identifier: Id or ARN.
        version: Version, or `DRAFT`.
    """

    identifier: str
    version: str


class BedrockEndpoint(ChatEndpoint):
    """Model on Amazon Bedrock.

    Args:
        model: Id or ARN.
        region: Region; that of the ARN, of the environment or of the profile if it is left out.
        name: Name in messages, metrics and answers; the end of the model's id if left out.
        price: Prices of its tokens.
        guardrail: Guardrail that the service applies.
        prompt_cache: How long the service keeps the beginning of a prompt: the system messages,
            and all messages but the last. None keeps nothing. Not every model can.

    Raises:
        InvalidArgumentError: The model is not named, or the Region is not known.
    """

    def __init__(
        self,
        model: str,
        *,
        region: str | None = None,
        name: str | None = None,
        price: TokenRates | None = None,
        guardrail: ConverseGuardrail | None = None,
        prompt_cache: Literal["5m", "1h"] | None = None,
    ):
        if not model.strip():
            raise InvalidArgumentError(["model is the id or ARN of a model on Bedrock"])
        super().__init__(name or model.rpartition("/")[2], price)
        arn = _ARN_REGION.match(model)
        base, self._region = aws_address("bedrock-runtime", region or (arn[1] if arn else None))
        # An ARN has slashes and colons, which have to be escaped in the path.
        self._address = f"{base}/model/{quote(model, safe='')}/converse"
        self._guardrail, self._cache_ttl = guardrail, prompt_cache
        self._auth: httpx2.Auth | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """All that determines an answer in addition to the call."""
        guardrail = self._guardrail
        applied = (guardrail.identifier, guardrail.version) if guardrail else ()
        return ("bedrock", self._address, *applied)

    def unsupported(self, call: ChatCall) -> list[str]:
        """Return what Converse cannot do of a call, or this class does not translate."""
        problems = []
        if call.seed is not None:
            problems.append(f"{self.name}: Converse takes no seed")
        if {"tools", "tool_choice"} & set(call.extra):
            problems.append(f"{self.name}: tools are not translated to Converse")
        for index, message in enumerate(call.messages):
            content = message.get("content")
            known = message["role"] in (*_TEXT_ROLES, *_SYSTEM_ROLES)
            if not known or not isinstance(content, str) or message.get("tool_calls"):
                problems.append(f"{self.name}: messages[{index}] is not a text of a role")
        return problems

    def request(self, call: ChatCall, stream: bool) -> HttpCall:
        """Return the request of a call."""
        if self._auth is None:
            self._auth = bedrock_auth(self._region)
        address = f"{self._address}-stream" if stream else self._address
        return HttpCall(address, self._body(call, stream), auth=self._auth)

    def _body(self, call: ChatCall, stream: bool) -> dict[str, Any]:
        system = [{"text": m["content"]} for m in call.messages if m["role"] in _SYSTEM_ROLES]
        messages = [
            {"role": m["role"], "content": [{"text": m["content"]}]}
            for m in call.messages
            if m["role"] in _TEXT_ROLES
        ]
        if self._cache_ttl is not None:
            point: Any = {"cachePoint": {"type": "default", "ttl": self._cache_ttl}}
            system += [point] if system else []
            if len(messages) > 1:
                messages[-2]["content"].append(point)
        settings = {
            "maxTokens": call.max_tokens,
            "temperature": call.temperature,
            "topP": call.top_p,
            "stopSequences": list(call.stop) or None,
        }
        inference = {key: value for key, value in settings.items() if value is not None}
        body: dict[str, Any] = {
            "messages": messages,
            "system": system,
            "inferenceConfig": inference,
            "additionalModelRequestFields": dict(call.extra),
        }
        body = {key: value for key, value in body.items() if value}
        if self._guardrail is not None:
            body["guardrailConfig"] = {
                "guardrailIdentifier": self._guardrail.identifier,
                "guardrailVersion": self._guardrail.version,
            }
            if stream:
                # Parts are held back until they have been examined.
                body["guardrailConfig"]["streamProcessingMode"] = "sync"
        return body

    def parse(self, body: Any) -> ModelReply:
        """Return the reply in a response."""
        content = body["output"]["message"]["content"]
        return ModelReply(
            "".join(str(block.get("text", "")) for block in content),
            _finish_reason(body.get("stopReason")),
            _usage(body.get("usage") or {}),
        )

    async def deltas(self, response: httpx2.Response) -> AsyncIterator[AnswerDelta]:
        """Yield the parts of a streamed response."""
        async for event in stream_events(self.name, response):
            body = json.loads(event.payload)
            if event.kind == "contentBlockDelta":
                if text := body["delta"].get("text"):
                    yield AnswerDelta(text)
            elif event.kind == "messageStop":
                yield AnswerDelta(finish_reason=_finish_reason(body.get("stopReason")))
            elif event.kind == "metadata":
                yield AnswerDelta(usage=_usage(body.get("usage") or {}))


def _finish_reason(reason: Any) -> str:
    return _FINISH.get(str(reason), "stop")


def _usage(usage: Mapping[str, Any]) -> TokenUsage:
    return TokenUsage(
        int(usage.get("inputTokens") or 0),
        int(usage.get("outputTokens") or 0),
        int(usage.get("cacheReadInputTokens") or 0),
        int(usage.get("cacheWriteInputTokens") or 0),
    )
