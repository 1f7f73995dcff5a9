"""Models behind an HTTP endpoint: concurrent calls with rate limit, retries, cache and cost limit.

Each question is looked up in the cache; only a miss is called, after its highest possible cost was
reserved. The protocol of the endpoint is in the `Call` that is passed in (`openai.py`,
`bedrock.py`). A judge is asked conversations; `evaluation/models` asks requests of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

import httpx2

from training.config.judges import Endpoint
from training.data.schema.rows import Message
from training.errors import RunError
from training.judges.base import JudgeContext
from training.judges.cost_ledger import CostLedger, count_characters
from training.judges.reply_cache import JudgeReply, reply_key
from training.judges.retries import (
    RateLimiter,
    StopEvent,
    UnreadableError,
    describe,
    is_retryable,
    refusal_hint,
    retry_delay_s,
)

__all__ = ["EndpointClient", "HttpJudge", "UnreadableError", "read_api_key", "reply_cache_folder"]

Question = TypeVar("Question")
"""Question to an endpoint: a JSON value, such as a conversation."""
Call = Callable[[httpx2.Client, Question], JudgeReply]
"""Performs one call; raises `httpx2.HTTPError` if it fails."""
OnReply = Callable[[Question, JudgeReply], None]
"""Called with a question and its reply."""


class EndpointClient(Generic[Question]):
    """Client of a model that is called over HTTP.

    Args:
        section: Section of the endpoint.
        context: Resources of the run.
        address: Address of the endpoint, for messages.
        identity: What determines a reply in addition to the question and the settings.
        call: Performs one call.
        characters: Returns the length of a question, by which its highest cost is estimated.

    Raises:
        RunError: A cost limit is set, but the price of the endpoint is not.
    """

    def __init__(
        self,
        section: Endpoint,
        context: JudgeContext,
        *,
        address: str,
        identity: Any,
        call: Call[Question],
        characters: Callable[[Question], int],
    ):
        self.role = context.role
        self._section = section
        self._display_name = f"the {context.role} at {address}"
        self._identity = [identity, section.model, section.temperature, section.max_new_tokens]
        self._call = call
        self._characters = characters
        self._client = httpx2.Client(timeout=section.timeout)
        self._rate_limiter = RateLimiter(section.calls_per_minute)
        self.ledger = CostLedger(
            reply_cache_folder(context) / f"{reply_key(self._identity)[:24]}.sqlite",
            context.folder,
            price=section.price,
            max_cost_usd=context.max_cost_usd,
            max_reply_tokens=section.max_new_tokens,
            role=context.role,
            limit_key=context.limit_key,
        )
        if context.max_cost_usd is not None and section.price is None:
            raise RunError(
                f"{context.limit_key} is set, and the price of the {context.role} "
                f"{section.model} is not: give price: {{input: …, output: …}} in USD per million "
                f"tokens (0 for a {context.role} of your own)"
            )

    def uncached(self, questions: Sequence[Question]) -> list[Question]:
        """Return the questions without a cached reply, each once."""
        by_key = {reply_key(self._identity, question): question for question in questions}
        return [
            question for key, question in by_key.items() if self.ledger.cached_reply(key) is None
        ]

    def generate_replies(
        self, questions: Sequence[Question], on_reply: OnReply[Question] | None = None
    ) -> list[JudgeReply]:
        """Return the reply to each question and whether it was truncated.

        Args:
            questions: The questions.
            on_reply: Called once for each distinct question as soon as its reply is known, in
                several threads; also if another call fails.

        Raises:
            RunError: The endpoint cannot be reached, or the cost limit is reached.
        """
        stop = StopEvent()
        keys = [reply_key(self._identity, question) for question in questions]
        # Duplicates are called once: concurrent misses of one key would each be paid for.
        distinct = dict(zip(keys, questions, strict=True))
        with ThreadPoolExecutor(self._section.concurrency) as pool:
            futures = {
                key: pool.submit(self._reply, key, question, stop, on_reply)
                for key, question in distinct.items()
            }
            try:
                replies = {key: future.result() for key, future in futures.items()}
            except BaseException as error:
                stop.set()
                for future in futures.values():
                    future.cancel()
                if isinstance(error, RunError) and stop.error:
                    # Futures are read in order; the first to raise here need not be the first
                    # that failed. Report the cause.
                    raise stop.error from None
                raise
        return [replies[key] for key in keys]

    def max_usd(self, questions: int, characters: int) -> float:
        """Return the highest possible cost of this many questions of this length each, in USD."""
        return questions * self.ledger.max_usd(characters)

    def call_uncached(self, question: Question) -> JudgeReply:
        """Return the reply to a question; the cache is neither read nor written.

        Raises:
            RunError: The endpoint cannot be reached, or the cost limit is reached.
        """
        return self._paid_reply(None, question, StopEvent())

    def _reply(
        self, key: str, question: Question, stop: StopEvent, on_reply: OnReply[Question] | None
    ) -> JudgeReply:
        reply = self.ledger.cached_reply(key) or self._paid_reply(key, question, stop)
        if on_reply is not None:
            on_reply(question, reply)
        return reply

    def _paid_reply(self, key: str | None, question: Question, stop: StopEvent) -> JudgeReply:
        reserved = self.ledger.reserve(self._characters(question))
        reply: JudgeReply | None = None
        try:
            reply = self._call_with_retries(question, stop)
        finally:
            self.ledger.settle(reserved, key, reply)
        return reply

    def _call_with_retries(self, question: Question, stop: StopEvent) -> JudgeReply:
        for attempt in range(self._section.retries + 1):
            if stop.is_set():
                break
            self._rate_limiter.wait()
            try:
                return self._call(self._client, question)
            except (httpx2.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
                if not is_retryable(error):
                    raise stop.fail(
                        RunError(
                            f"{self._display_name} refuses the call ({describe(error)}). "
                            f"{refusal_hint(error)}"
                        )
                    ) from error
                last_error = error
                if attempt < self._section.retries:
                    stop.wait(retry_delay_s(error, attempt))
        else:
            raise stop.fail(
                RunError(
                    f"{self._display_name} does not answer ({describe(last_error)}) after "
                    f"{self._section.retries + 1} calls. Every reply so far is cached: when it is "
                    f"available again, rerun the same command to resume"
                )
            ) from last_error
        raise stop.error or RunError(f"{self._display_name} was not called: the batch was stopped")


class HttpJudge(EndpointClient[list[Message]]):
    """Judge that is called over HTTP.

    Args:
        section: The job's section.
        context: Resources of the run.
        address: Address of the endpoint, for messages.
        identity: What determines a reply in addition to the question and the settings.
        call: Performs one call.

    Raises:
        RunError: A cost limit is set, but the price of the judge is not.
    """

    def __init__(
        self,
        section: Endpoint,
        context: JudgeContext,
        *,
        address: str,
        identity: Any,
        call: Call[list[Message]],
    ):
        super().__init__(
            section,
            context,
            address=address,
            identity=identity,
            call=call,
            characters=count_characters,
        )

    def replies(self, questions: Sequence[list[Message]]) -> list[str]:
        """Return the text of the reply to each conversation.

        Raises:
            RunError: The endpoint cannot be reached, or the cost limit is reached.
        """
        return [reply.text for reply in self.generate_replies(questions)]


def reply_cache_folder(context: JudgeContext) -> Path:
    """Return the folder of cached replies; it is in the run folder if the cache is read-only."""
    try:
        folder = context.cache / "replies"
        folder.mkdir(parents=True, exist_ok=True)
        return folder if os.access(folder, os.W_OK) else context.folder / "replies"
    except OSError:
        return context.folder / "replies"


def read_api_key(variable: str, context: JudgeContext) -> str:
    """Return the API key in an environment variable.

    Raises:
        RunError: The variable is not set.
    """
    key = os.environ.get(variable, "")
    if not key:
        raise RunError(
            f"the environment variable {variable} is not set; it should hold the {context.role}'s "
            f"key"
        )
    return key
