"""Requests to a model behind an endpoint, and the interface of the protocols that make them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypedDict

import httpx2

from evaluation.items import Prompt
from evaluation.models.base import GenerationSettings, TooLong
from training.judges.cost_ledger import count_characters
from training.judges.reply_cache import JudgeReply

_CHARACTERS_PER_TOKEN_ID = 3
"""Characters that a cost account counts for a token."""
MAX_STOP_TEXTS = 4
"""Stop texts that OpenAI's API accepts; a complete answer is cut at all of a task's."""

TOO_LONG = TooLong("longer than the context of the endpoint")
"""Outcome of a request that the endpoint refuses for its length."""


class EndpointRequest(TypedDict):
    """Request to an endpoint; all of it determines the reply, and is the key in the cache.

    Attributes:
        path: Path after the base address.
        body: Body of the call.
        sample: Number of the sample, by which several answers to one prompt differ.
    """

    path: str
    body: dict[str, Any]
    sample: int


@dataclass(frozen=True)
class EndpointAnswer:
    """Answer in a cached reply.

    Attributes:
        text: The answer.
        prompt_tokens: Number of tokens of the prompt; None if the endpoint does not say.
    """

    text: str
    prompt_tokens: int | None

    def to_text(self) -> str:
        """Return what is cached."""
        return json.dumps([self.text, self.prompt_tokens], ensure_ascii=False)

    @classmethod
    def as_reply(cls, reply: JudgeReply) -> JudgeReply:
        """Return a reply whose text is what is cached of the answer."""
        answer = cls(reply.text, reply.input_tokens or None)
        return replace(reply, text=answer.to_text())

    @classmethod
    def from_text(cls, text: str) -> EndpointAnswer:
        """Return the answer that was cached as a text."""
        return cls(*json.loads(text))


class EndpointProtocol(Protocol):
    """Protocol of an endpoint: how answers are requested and read."""

    @property
    def address(self) -> str:
        """Address of the endpoint."""

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that can change a score, for the results."""

    def answer_request(
        self, prompt: Prompt, settings: GenerationSettings, sample: int
    ) -> EndpointRequest:
        """Return the request of an answer.

        Args:
            prompt: Text, or a conversation.
            settings: How the answer is generated.
            sample: Number of the sample.
        """

    def call(self, client: httpx2.Client, request: EndpointRequest) -> JudgeReply:
        """Perform a call.

        Raises:
            httpx2.HTTPError: The call failed.
            UnreadableError: The response does not follow the protocol.
        """


def request_characters(request: EndpointRequest) -> int:
    """Return the number of characters of a request's prompt."""
    body = request["body"]
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return len(prompt)
    if prompt is not None:
        return _CHARACTERS_PER_TOKEN_ID * len(prompt)
    return count_characters([*body.get("system", ()), *body["messages"]])
