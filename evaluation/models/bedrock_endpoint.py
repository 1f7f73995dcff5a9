"""Amazon Bedrock's Converse API as the protocol of an evaluated model.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html. It takes
conversations: a text is sent as a user's message. It returns no log-probabilities of given text.
"""

from __future__ import annotations

from typing import Any

import httpx2

from account.errors import AccountError
from evaluation.config.endpoints import BedrockModel
from evaluation.items import Prompt
from evaluation.models.base import GenerationSettings
from evaluation.models.context_errors import exceeds_context
from evaluation.models.endpoint_protocol import (
    MAX_STOP_TEXTS,
    EndpointAnswer,
    EndpointRequest,
)
from training.errors import RunError
from training.judges.base import JudgeContext
from training.judges.bedrock import (
    converse_addresses,
    converse_auth,
    converse_body,
    parse_converse,
)
from training.judges.reply_cache import JudgeReply


class BedrockProtocol:
    """Protocol of a model on Amazon Bedrock.

    Args:
        section: Section of the model.
        context: Name of its role, for messages.

    Raises:
        RunError: Neither AWS credentials nor a Bedrock API key are available.
    """

    def __init__(self, section: BedrockModel, context: JudgeContext):
        self._section = section
        self._auth = converse_auth(section, context)
        self._base, self._address = converse_addresses(section)

    @property
    def address(self) -> str:
        """Address of the service."""
        return self._base

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that can change a score, for the results."""
        return {
            "backend": "Bedrock Converse",
            "url": self._base,
            "region": self._section.region,
            "model": self._section.model,
            "text_prompts": "chat",
        }

    def answer_request(
        self, prompt: Prompt, settings: GenerationSettings, sample: int
    ) -> EndpointRequest:
        """Return the request of an answer.

        Args:
            prompt: Text, which becomes a user's message, or a conversation.
            settings: How the answer is generated; Converse takes no seed.
            sample: Number of the sample.
        """
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        section = self._section.model_copy(
            update={
                "max_new_tokens": settings.max_new_tokens,
                "temperature": settings.temperature,
            }
        )
        body = converse_body(section, messages)
        if settings.stop:
            body["inferenceConfig"]["stopSequences"] = list(settings.stop[:MAX_STOP_TEXTS])
        return {"path": "converse", "body": body, "sample": sample}

    def call(self, client: httpx2.Client, request: EndpointRequest) -> JudgeReply:
        """Perform a call.

        Raises:
            httpx2.HTTPError: The call failed.
            RunError: The credentials have expired.
        """
        try:
            response = client.post(self._address, json=request["body"], auth=self._auth)
        except AccountError as error:
            raise RunError(f"the endpoint cannot be called: {error}") from error
        if exceeds_context(response):
            return JudgeReply("", too_long=True)
        response.raise_for_status()
        return EndpointAnswer.as_reply(parse_converse(response.json()))
