"""OpenAI's API as the protocol of an evaluated model.

Conversations go to `/chat/completions`, text to `/completions`
(https://platform.openai.com/docs/api-reference/completions), which continues it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2

from evaluation.config.endpoints import OpenAiModel
from evaluation.items import Prompt
from evaluation.models.base import GenerationSettings
from evaluation.models.context_errors import exceeds_context
from evaluation.models.echoed_log_probs import EchoError, check_coverage, parse_echo
from evaluation.models.endpoint_protocol import (
    MAX_STOP_TEXTS,
    EndpointAnswer,
    EndpointRequest,
)
from evaluation.models.model_list import list_models
from training.judges.base import JudgeContext
from training.judges.openai import auth_headers, parse_response
from training.judges.reply_cache import JudgeReply
from training.judges.retries import UnreadableError

CHAT, COMPLETIONS = "chat/completions", "completions"


class OpenAiProtocol:
    """Protocol of an endpoint with OpenAI's API.

    Args:
        section: Section of the endpoint.
        context: Name of its role, for messages.

    Raises:
        RunError: The environment variable of its API key is not set.
    """

    def __init__(self, section: OpenAiModel, context: JudgeContext):
        self._section = section
        self._headers = auth_headers(section, context)

    @property
    def address(self) -> str:
        """Address of the endpoint."""
        return self._section.url

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that can change a score, for the results."""
        return {
            "backend": "OpenAI protocol",
            "url": self._section.url,
            "model": self._section.model,
            "text_prompts": self._section.text_prompts,
        }

    def answer_request(
        self, prompt: Prompt, settings: GenerationSettings, sample: int
    ) -> EndpointRequest:
        """Return the request of an answer.

        Args:
            prompt: Text, or a conversation.
            settings: How the answer is generated.
            sample: Number of the sample, which is also its seed.
        """
        body: dict[str, Any] = {
            "model": self._section.model,
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
        }
        if settings.stop:
            body["stop"] = list(settings.stop[:MAX_STOP_TEXTS])
        if settings.temperature > 0:
            body["seed"] = settings.seed + sample
        if isinstance(prompt, str) and self._section.text_prompts == "completions":
            return {"path": COMPLETIONS, "body": {**body, "prompt": prompt}, "sample": sample}
        if isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        return {"path": CHAT, "body": {**body, "messages": prompt}, "sample": sample}

    def echo_request(self, prompt: str | Sequence[int]) -> EndpointRequest:
        """Return the request of the log-probabilities of a prompt's tokens.

        Args:
            prompt: Text, or token ids.
        """
        body = {
            "model": self._section.model,
            "prompt": prompt if isinstance(prompt, str) else list(prompt),
            # One token: 0 is refused by some servers, and is a default of 16 for others.
            "max_tokens": 1,
            "temperature": 0.0,
            "echo": True,
            "logprobs": 1,
        }
        return {"path": COMPLETIONS, "body": body, "sample": 0}

    def call(self, client: httpx2.Client, request: EndpointRequest) -> JudgeReply:
        """Perform a call.

        Raises:
            httpx2.HTTPError: The call failed.
            UnreadableError: The response does not follow the protocol.
        """
        response = self._post(client, request)
        if exceeds_context(response):
            return JudgeReply("", too_long=True)
        response.raise_for_status()
        if request["body"].get("echo"):
            return _echo_reply(response, request["body"]["prompt"])
        parse = parse_response if request["path"] == CHAT else _completion_reply
        return EndpointAnswer.as_reply(parse(response))

    def probe(self, client: httpx2.Client, request: EndpointRequest) -> JudgeReply:
        """Perform a call for log-probabilities; what is wrong with them is in the reply.

        Unlike `call`, it is not retried for them: another call would be answered alike.

        Raises:
            httpx2.HTTPError: The call failed.
            UnreadableError: The response is no JSON.
        """
        response = self._post(client, request)
        response.raise_for_status()
        body, prompt = _json(response), request["body"]["prompt"]
        try:
            reply = _echo_reply(response, prompt)
            check_coverage(body, prompt)
        except EchoError as error:
            usage = body.get("usage") if isinstance(body, dict) else None
            tokens = (usage or {}).get("prompt_tokens", 0)
            return JudgeReply(json.dumps({"error": str(error)}), int(tokens), 1)
        return reply

    def _post(self, client: httpx2.Client, request: EndpointRequest) -> httpx2.Response:
        address = f"{self._section.url.rstrip('/')}/{request['path']}"
        return client.post(address, json=request["body"], headers=self._headers)

    def models(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what the endpoint says of each of its models; empty if it has no list.

        Raises:
            RunError: The endpoint cannot be reached, or refuses the key.
        """
        return list_models(self._section, self._headers)


def _json(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        excerpt = " ".join(response.text[:120].split())
        raise UnreadableError(
            f"HTTP {response.status_code}, but no JSON: {excerpt!r}. The url must end before "
            f"/completions, as in http://localhost:8000/v1"
        ) from error


def _echo_reply(response: httpx2.Response, prompt: Any) -> JudgeReply:
    body = _json(response)
    echoed = parse_echo(body, prompt)
    usage = body.get("usage") or {}
    tokens = int(usage.get("prompt_tokens", len(echoed.log_probs)))
    return JudgeReply(echoed.to_text(), tokens, int(usage.get("completion_tokens", 1)))


def _completion_reply(response: httpx2.Response) -> JudgeReply:
    body = _json(response)
    try:
        choice, usage = body["choices"][0], body.get("usage") or {}
        text = choice["text"]
        if not isinstance(text, str):
            raise TypeError(text)
        return JudgeReply(
            text,
            int(usage.get("prompt_tokens", 0)),
            int(usage.get("completion_tokens", 0)),
            truncated=choice.get("finish_reason") == "length",
        )
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise UnreadableError(f"this is no completion: {str(body)[:120]}") from error
