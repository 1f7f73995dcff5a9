"""Model behind an endpoint, evaluated over HTTP: OpenAI's API or Amazon Bedrock.

Replies are cached by all that determines them, paid for once, and limited by `--max-cost`
together with those of judges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evaluation.config.endpoints import BedrockModel, EndpointModelSection
from evaluation.config.suite import Suite
from evaluation.config.tasks import AnyTask, GenerationTask, MultipleChoice
from evaluation.items import Item, Prompt
from evaluation.models.base import (
    GeneratedAnswers,
    GenerationSettings,
    LogLikelihood,
    TooLong,
    until_stop,
)
from evaluation.models.bedrock_endpoint import BedrockProtocol
from evaluation.models.endpoint_likelihoods import EndpointLikelihoods
from evaluation.models.endpoint_protocol import (
    TOO_LONG,
    EndpointAnswer,
    EndpointProtocol,
    EndpointRequest,
    request_characters,
)
from evaluation.models.endpoint_tokenizer import EndpointTokenizer
from evaluation.models.openai_endpoint import OpenAiProtocol
from evaluation.results import EvaluatedModelInfo
from training.console import say
from training.judges.base import JudgeContext
from training.judges.http_client import EndpointClient
from training.judges.reply_cache import JudgeReply

_CUT = TooLong("cut by the endpoint, which read fewer tokens than the prompt has")


class EndpointModel:
    """Model behind an endpoint.

    Args:
        source: The endpoint as the user wrote it.
        section: Its section.
        context: Folder of what was spent, cache and cost limit.

    Raises:
        RunError: A key is not set, or a cost limit is set and a price is not.
        ModelError: Its tokenizer cannot be loaded.
    """

    def __init__(self, source: str, section: EndpointModelSection, context: JudgeContext):
        self._source, self._section, self._context = source, section, context
        self._clients: dict[tuple[int, float], EndpointClient[EndpointRequest]] = {}
        self._protocol: EndpointProtocol
        self._openai: OpenAiProtocol | None = None
        self._tokenizer: EndpointTokenizer | None = None
        self._likelihoods: EndpointLikelihoods | None = None
        if isinstance(section, BedrockModel):
            self._protocol = BedrockProtocol(section, context)
            self._client(1, 0.0)  # A missing price is reported before anything is asked.
        else:
            self._protocol = self._openai = OpenAiProtocol(section, context)
            client = self._client(1, 0.0)
            if section.tokenizer is not None:
                self._tokenizer = EndpointTokenizer(section.tokenizer)
            self._likelihoods = EndpointLikelihoods(
                source, section, self._openai, client, self._tokenizer
            )

    @property
    def info(self) -> EvaluatedModelInfo:
        """Identity of the model, and what can change its scores."""
        settings = {**self._protocol.settings, "revision": self._section.revision}
        if self._likelihoods is not None:
            settings["tokenizer"] = getattr(self._section, "tokenizer", None)
            settings |= self._likelihoods.settings
        return EvaluatedModelInfo(self._source, None, self._section.kind, settings)

    def prepare(self, suite: Suite, items: Mapping[str, Sequence[Item]]) -> None:
        """Examine the endpoint, if the suite needs log-probabilities, and announce the cost.

        Args:
            suite: The suite.
            items: Items of each task.

        Raises:
            ModelError: The endpoint does not return what the suite needs.
            RunError: It cannot be reached.
        """
        needing = [task.name for task in suite.tasks if not isinstance(task, GenerationTask)]
        if needing and self._likelihoods is not None:
            self._likelihoods.examine(needing, self._context)
        calls, cached, usd = self._count(suite, items)
        if calls > cached and self._openai is not None:
            # Another model may be evaluated first, for long: a wrong address is said now.
            models = self._openai.models()
            if models and self._section.model not in models:
                say(f"the endpoint lists no {self._section.model}, but {', '.join(models)}")
        cost = "not known, since no price is given"
        if self._section.price is not None:
            cost = f"at most {usd:.4f} USD by the price given"
        say(
            f"endpoint {self._section.model}: {calls} calls, of which {cached} have a cached "
            f"reply; the cost of the rest is {cost}"
        )
        if cached:
            say("if other weights are served under this name now, set another revision")
        limit = self._context.max_cost_usd
        if limit is not None and usd > limit:
            say(
                f"this can exceed --max-cost ({limit:g} USD), at which the evaluation stops; the "
                f"same command with a higher limit resumes it"
            )

    def _count(self, suite: Suite, items: Mapping[str, Sequence[Item]]) -> tuple[int, int, float]:
        """Return the calls of a suite, those with a cached reply, and the rest's highest cost."""
        calls, cached, usd = 0, 0, 0.0
        for task in suite.tasks:
            client, requests = self._requests(task, items[task.name])
            new = client.uncached(requests)
            calls, cached = calls + len(requests), cached + len(requests) - len(new)
            usd += sum(client.max_usd(1, request_characters(request)) for request in new)
        return calls, cached, usd

    def log_likelihoods(
        self, requests: Sequence[tuple[Prompt, str]]
    ) -> list[LogLikelihood | TooLong]:
        """Return the log-likelihood of each continuation after its context."""
        assert self._likelihoods is not None, "checked by unsupported_tasks"
        plans = [self._likelihoods.continuation(*request) for request in requests]
        return self._likelihoods.compute(plans)

    def text_log_likelihoods(self, texts: Sequence[str]) -> list[LogLikelihood | TooLong]:
        """Return the log-likelihood of each text, in windows if its tokens are known."""
        assert self._likelihoods is not None, "checked by unsupported_tasks"
        return self._likelihoods.compute([self._likelihoods.text(text) for text in texts])

    def generate(
        self, prompts: Sequence[Prompt], settings: GenerationSettings
    ) -> list[GeneratedAnswers | TooLong]:
        """Return answers to each prompt."""
        client = self._client(settings.max_new_tokens, settings.temperature)
        replies = iter(client.generate_replies(list(self._answers(prompts, settings))))
        results: list[GeneratedAnswers | TooLong] = []
        for prompt in prompts:
            drawn = [next(replies) for _ in range(settings.samples)]
            if any(reply.too_long for reply in drawn):
                results.append(TOO_LONG)
                continue
            answers = _generated(drawn, settings)
            results.append(_CUT if self._is_cut(prompt, answers.prompt_tokens) else answers)
        return results

    def _is_cut(self, prompt: Prompt, tokens: int | None) -> bool:
        """Return True if an endpoint has read fewer tokens than a prompt has.

        Some servers cut what exceeds their context and say nothing.

        Args:
            prompt: The prompt.
            tokens: Tokens of the prompt, as the endpoint counts them.
        """
        if self._tokenizer is None or tokens is None:
            return False
        return tokens < self._tokenizer.least_tokens(prompt)

    def _answers(
        self, prompts: Sequence[Prompt], settings: GenerationSettings
    ) -> Iterator[EndpointRequest]:
        for prompt in prompts:
            for sample in range(settings.samples):
                yield self._protocol.answer_request(prompt, settings, sample)

    def _requests(
        self, task: AnyTask, items: Sequence[Item]
    ) -> tuple[EndpointClient[EndpointRequest], list[EndpointRequest]]:
        """Return the requests of a task, and the client that performs them."""
        if isinstance(task, GenerationTask):
            settings = GenerationSettings(
                task.max_new_tokens, task.stop, task.samples, task.temperature
            )
            client = self._client(settings.max_new_tokens, settings.temperature)
            return client, list(self._answers([item.prompt for item in items], settings))
        likelihoods = self._likelihoods
        assert likelihoods is not None, "checked by unsupported_tasks"
        if isinstance(task, MultipleChoice):
            plans = [
                likelihoods.continuation(item.prompt, choice)
                for item in items
                for choice in item.choices
            ]
        else:
            plans = [likelihoods.text(str(item.prompt)) for item in items]
        return likelihoods.client, list(likelihoods.requests(plans).values())

    def _client(self, max_new_tokens: int, temperature: float) -> EndpointClient[EndpointRequest]:
        """Return the client of calls with the settings of a task."""
        key = (max_new_tokens, temperature)
        if key not in self._clients:
            update = {"max_new_tokens": max_new_tokens, "temperature": temperature}
            self._clients[key] = EndpointClient(
                self._section.model_copy(update=update),
                self._context,
                address=self._protocol.address,
                identity=["evaluated", self._protocol.address, self._section.revision],
                call=self._protocol.call,
                characters=request_characters,
            )
        return self._clients[key]


def _generated(replies: Sequence[JudgeReply], settings: GenerationSettings) -> GeneratedAnswers:
    answers = [EndpointAnswer.from_text(reply.text) for reply in replies]
    # A server may ignore stop texts, or be sent only the first of them.
    texts = tuple(until_stop(answer.text, settings.stop) for answer in answers)
    truncated = tuple(
        reply.truncated and text == answer.text
        for reply, text, answer in zip(replies, texts, answers, strict=True)
    )
    return GeneratedAnswers(texts, truncated, answers[0].prompt_tokens)
