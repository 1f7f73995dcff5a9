"""Requests to the engine, and what it reports about them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from serving.engine.sampling import SamplingSettings, TokenLogProb

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True)
class AnswerSettings:
    """Settings of an answer.

    Attributes:
        max_tokens: Longest answer, in tokens; 0 to read the prompt only.
        sampling: Settings by which its tokens are chosen.
        stop: Texts that end it.
        ignore_end: Whether it continues after a token that ends answers.
        log_probs: Number of most likely tokens to report at each place; None to report nothing.
        prompt_log_probs: The same, for the tokens of the prompt.
    """

    max_tokens: int
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    stop: tuple[str, ...] = ()
    ignore_end: bool = False
    log_probs: int | None = None
    prompt_log_probs: int | None = None


@dataclass(frozen=True)
class AnswerPart:
    """Part of an answer: what one step of the engine adds, or several.

    Attributes:
        text: Text that is added.
        token_count: Number of tokens that are added.
        log_probs: Log-probability of each, if they were requested.
        prompt_log_probs: Log-probability of each token of the prompt but the first, with the first
            part of an answer, if they were requested.
        finish_reason: Why the answer has ended; None while it continues.
        error: What went wrong, if the answer ended in an error.
    """

    text: str = ""
    token_count: int = 0
    log_probs: tuple[TokenLogProb, ...] = ()
    prompt_log_probs: tuple[TokenLogProb, ...] = ()
    finish_reason: FinishReason | None = None
    error: str = ""

    def followed_by(self, other: AnswerPart) -> AnswerPart:
        """Return this part and the one that follows it as one part."""
        return AnswerPart(
            self.text + other.text,
            self.token_count + other.token_count,
            self.log_probs + other.log_probs,
            self.prompt_log_probs + other.prompt_log_probs,
            other.finish_reason,
            other.error,
        )


@dataclass(eq=False)
class GenerationRequest:
    """Prompt to be answered.

    Attributes:
        prompt: Token ids of the prompt.
        settings: Settings of the answer.
        deliver: Called with each part, from the engine's thread.
        adapter: Name of the adapter; None for the model itself.
        deadline: Time on the monotonic clock at which the answer ends in an error.
        arrived: Time at which it arrived.
        cancelled: Set by whoever no longer wants the answer.
    """

    prompt: list[int]
    settings: AnswerSettings
    deliver: Callable[[AnswerPart], None]
    adapter: str | None = None
    deadline: float | None = None
    arrived: float = field(default_factory=time.monotonic)
    cancelled: bool = False

    @property
    def longest(self) -> int:
        """Tokens of the prompt and of the longest answer."""
        return len(self.prompt) + self.settings.max_tokens

    @property
    def expired(self) -> bool:
        """True if the answer has taken longer than it may."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def end(self, reason: FinishReason, error: str = "") -> None:
        """Deliver the end of an answer, without further text."""
        self.deliver(AnswerPart(finish_reason=reason, error=error))
