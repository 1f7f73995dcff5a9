"""Calls and answers: conversation, settings, answer, parts of a stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypedDict

from client.errors import InvalidArgumentError

Conversation: TypeAlias = Sequence[Mapping[str, Any]]
"""Messages in OpenAI's form: `{"role": "user", "content": "…"}`."""

ROLES = ("system", "developer", "user", "assistant", "tool")
_RESERVED = frozenset(("model", "messages", "stream", "stream_options", "n"))


class CallSettings(TypedDict, total=False):
    """Settings of one call, as keywords; `ChatCall` describes them.

    Attributes:
        timeout_s: Limit until the answer, or the first part of a stream, in seconds.
    """

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    stop: str | Sequence[str]
    seed: int | None
    extra: Mapping[str, Any]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One call.

    Attributes:
        messages: The conversation.
        max_tokens: Longest answer; None for the default of the endpoint.
        temperature: Sampling temperature; None for the default of the endpoint.
        top_p: Share of the probability from which tokens are drawn.
        stop: Texts that end the answer.
        seed: Seed of the answer.
        extra: Further fields of the body.
    """

    messages: Conversation = field(repr=False)
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_deterministic(self) -> bool:
        """True if the same call gets the same answer again: it is greedy, or has a seed."""
        return self.temperature == 0 or self.seed is not None

    def check(self, others: Sequence[str] = ()) -> None:
        """Check the arguments.

        Args:
            others: Problems that were found before.

        Raises:
            InvalidArgumentError: They cannot be sent; lists every problem.
        """
        problems = [*others, *_message_problems(self.messages), *self._setting_problems()]
        if problems:
            raise InvalidArgumentError(problems)

    def _setting_problems(self) -> Iterator[str]:
        if self.max_tokens is not None and (not _is_whole(self.max_tokens) or self.max_tokens < 1):
            yield f"max_tokens is a whole number of at least 1 (got {self.max_tokens!r})"
        if self.temperature is not None and not _is_within(self.temperature, 0, 2):
            yield f"temperature is between 0 and 2 (got {self.temperature!r})"
        if self.top_p is not None and (not _is_within(self.top_p, 0, 1) or not self.top_p):
            yield f"top_p is above 0 and at most 1 (got {self.top_p!r})"
        if any(not isinstance(text, str) or not text for text in self.stop):
            yield "stop holds texts that are not empty"
        if self.seed is not None and not _is_whole(self.seed):
            yield f"seed is a whole number (got {self.seed!r})"
        if taken := sorted(_RESERVED & set(self.extra)):
            yield f"extra cannot set {', '.join(taken)}, which the client sets itself"


def build_call(messages: Conversation, settings: CallSettings) -> ChatCall:
    """Return a call that can be sent.

    Args:
        messages: The conversation.
        settings: Its settings.

    Raises:
        InvalidArgumentError: It cannot be sent; lists every problem.
    """
    stop = settings.get("stop") or ()
    call = ChatCall(
        messages,
        settings.get("max_tokens"),
        settings.get("temperature"),
        settings.get("top_p"),
        (stop,) if isinstance(stop, str) else tuple(stop),
        settings.get("seed"),
        settings.get("extra") or {},
    )
    unknown = sorted(set(settings) - set(CallSettings.__annotations__))
    problems = [f"there is no setting {key}: pass it in extra" for key in unknown]
    timeout_s = settings.get("timeout_s", 1)
    if not _is_within(timeout_s, 0, math.inf) or not timeout_s:
        problems.append(f"timeout_s is a number of seconds above 0 (got {timeout_s!r})")
    call.check(problems)
    return call


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_within(value: Any, low: float, high: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and low <= value <= high


def _message_problems(messages: Any) -> Iterator[str]:
    """Yield what is wrong with a conversation; no problem quotes a text of it."""
    if isinstance(messages, str) or not isinstance(messages, Sequence):
        yield 'messages is a list of messages, such as [{"role": "user", "content": "…"}]'
        return
    if not messages:
        yield "messages is empty"
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            yield f"messages[{index}] is no mapping with role and content"
            continue
        if message.get("role") not in ROLES:
            yield f"messages[{index}].role is one of {', '.join(ROLES)}"
        content = message.get("content")
        if not isinstance(content, str | list) and not message.get("tool_calls"):
            yield f"messages[{index}].content is a text, or a list of parts"


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of an answer, as the endpoint counts them.

    Attributes:
        input: Tokens of the prompt, without those below.
        output: Tokens of the answer.
        cached_input: Tokens of the prompt that were read from the endpoint's prompt cache.
        cache_write: Tokens of the prompt that were written to it.
    """

    input: int = 0
    output: int = 0
    cached_input: int = 0
    cache_write: int = 0


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    """Part of a streamed answer.

    Attributes:
        text: Text of the part.
        finish_reason: Why the answer ended, in the last part; else None.
        usage: Tokens of the answer, in a last part; else None.
        tool_calls: Parts of calls of functions, in OpenAI's form.
    """

    text: str = field(default="", repr=False)
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class ModelReply:
    """Reply of an endpoint, before placeholders are replaced.

    Attributes:
        text: Text of the reply.
        finish_reason: `stop`, `length`, `tool_calls` or `content_filter`.
        usage: Its tokens.
        tool_calls: Calls of functions, in OpenAI's form.
    """

    text: str = field(repr=False)
    finish_reason: str
    usage: TokenUsage
    tool_calls: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class ChatAnswer(ModelReply):
    """Answer to a call; its texts are not part of its `repr`, so that no log holds them.

    Attributes:
        endpoint: Name of the endpoint that answered.
        cost_usd: Its price by the tokens; None if the endpoint has no price.
        from_cache: True if the answer comes from the response cache.
        retries: Calls that failed before.
        latency_s: Seconds until the answer was complete.
    """

    endpoint: str = ""
    cost_usd: float | None = None
    from_cache: bool = False
    retries: int = 0
    latency_s: float = 0.0
