"""Log-likelihoods of a model behind an endpoint with OpenAI's API, and the probe for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.config.endpoints import OpenAiModel
from evaluation.items import Prompt
from evaluation.models.base import LogLikelihood, TooLong
from evaluation.models.echoed_log_probs import EchoedPrompt
from evaluation.models.endpoint_protocol import TOO_LONG, EndpointRequest, request_characters
from evaluation.models.endpoint_tokenizer import EndpointTokenizer
from evaluation.models.likelihood_plans import (
    PROBE,
    EchoPrompt,
    LikelihoodPlan,
    TextContinuation,
    WholeText,
)
from evaluation.models.model_list import listed_context_length
from evaluation.models.openai_endpoint import OpenAiProtocol
from training.errors import ModelError, RunError
from training.judges.base import JudgeContext
from training.judges.http_client import EndpointClient

_NO_LENGTH_LIMIT = 1 << 20
_NOT_ABOUT_ECHO = (401, 403, 429)
"""HTTP statuses that say nothing about whether log-probabilities are returned."""


class EndpointLikelihoods:
    """Log-likelihoods of an endpoint.

    Args:
        source: The endpoint as the user wrote it.
        section: Its section.
        protocol: Its protocol.
        client: Client of calls that generate one token.
        tokenizer: Its tokenizer; None to send text.
    """

    def __init__(
        self,
        source: str,
        section: OpenAiModel,
        protocol: OpenAiProtocol,
        client: EndpointClient[EndpointRequest],
        tokenizer: EndpointTokenizer | None,
    ):
        self._source, self._section, self._protocol = source, section, protocol
        self.client = client
        self._tokenizer = tokenizer
        self._length = section.context_length
        self._starts_before = False
        self.settings: dict[str, Any] = {}

    def examine(self, needing: Sequence[str], context: JudgeContext) -> None:
        """Check that the endpoint returns log-probabilities of given text.

        Args:
            needing: Tasks that need them, for messages.
            context: Cost limit of the evaluation.

        Raises:
            ModelError: It does not, or its tokens are not those of the section's tokenizer.
            RunError: It cannot be reached.
        """
        echoed = self._probe(needing, context)
        self._starts_before = echoed.starts_before(PROBE)
        listed = self._protocol.models().get(self._section.model, {})
        self._length = self._length or listed_context_length(listed)
        if self._tokenizer is not None:
            self._tokenizer.check(echoed)
        self.settings = {
            "context_length": self._length,
            "first_token": self._first_token(),
        }

    def continuation(self, prompt: Prompt, continuation: str) -> LikelihoodPlan:
        """Return the plan of a continuation after a prompt."""
        if self._tokenizer is not None:
            return self._tokenizer.continuation(prompt, continuation)
        assert isinstance(prompt, str), "checked by unsupported_tasks"
        return TextContinuation(prompt, continuation, starts_before=self._starts_before)

    def text(self, text: str) -> LikelihoodPlan:
        """Return the plan of a whole text."""
        if self._tokenizer is not None:
            return self._tokenizer.text(text, self._length or _NO_LENGTH_LIMIT)
        return WholeText(text, starts_before=self._starts_before)

    def requests(self, plans: Sequence[LikelihoodPlan]) -> dict[EchoPrompt, EndpointRequest]:
        """Return the requests of plans, each prompt once."""
        return {
            prompt: self._protocol.echo_request(prompt) for plan in plans for prompt in plan.prompts
        }

    def compute(self, plans: Sequence[LikelihoodPlan]) -> list[LogLikelihood | TooLong]:
        """Return the log-likelihood of each plan.

        Raises:
            RunError: The endpoint cannot be reached, or the cost limit is reached.
        """
        requests = self.requests(plans)
        replies = self.client.generate_replies(list(requests.values()))
        echoes = {
            prompt: None if reply.too_long else EchoedPrompt.from_text(reply.text)
            for prompt, reply in zip(requests, replies, strict=True)
        }
        return [_read(plan, echoes) for plan in plans]

    def _probe(self, needing: Sequence[str], context: JudgeContext) -> EchoedPrompt:
        client = EndpointClient(
            self._section.model_copy(update={"max_new_tokens": 1, "temperature": 0.0}),
            context,
            address=self._section.url,
            identity="probe",
            call=self._protocol.probe,
            characters=request_characters,
        )
        try:
            text = client.call_uncached(self._protocol.echo_request(PROBE)).text
        except RunError as error:
            response = getattr(error.__cause__, "response", None)
            if response is None or response.status_code in _NOT_ABOUT_ECHO:
                raise
            raise self._no_log_probs(needing, str(error)) from error
        reply = json.loads(text)
        if "error" in reply:
            raise self._no_log_probs(needing, reply["error"])
        return EchoedPrompt.from_text(text)

    def _no_log_probs(self, needing: Sequence[str], reason: str) -> ModelError:
        return ModelError(
            f"{self._source}: {', '.join(needing)}: multiple choice and perplexity need "
            f"log-probabilities of given text, which POST {self._section.url.rstrip('/')}"
            f"/completions with echo and logprobs should return: {reason}. Serve the model with "
            f"temper serve or vLLM, evaluate its folder, or leave out these tasks"
        )

    def _first_token(self) -> str:
        """Return how the first token of a text is scored, for the results."""
        if self._tokenizer is not None:
            return "scored after the token that starts texts, as by a local evaluation"
        if self._starts_before:
            return "scored after a token that the endpoint puts before a text"
        return "not scored: the endpoint puts no token before a text"


def _read(
    plan: LikelihoodPlan, echoes: Mapping[EchoPrompt, EchoedPrompt | None]
) -> LogLikelihood | TooLong:
    echoed = {prompt: echo for prompt in plan.prompts if (echo := echoes[prompt]) is not None}
    return plan.read(echoed.__getitem__) if len(echoed) == len(set(plan.prompts)) else TOO_LONG
