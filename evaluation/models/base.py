"""Interface of a model that is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evaluation.items import Prompt
from evaluation.results import EvaluatedModelInfo


@dataclass(frozen=True)
class LogLikelihood:
    """Log-likelihood of a text after a context.

    Attributes:
        nats: Sum of the log-probabilities of its tokens.
        tokens: Number of its tokens.
        greedy: True if each token is the most likely one.
        context_tokens: Number of tokens before it.
    """

    nats: float
    tokens: int
    greedy: bool
    context_tokens: int = 0


@dataclass(frozen=True)
class GenerationSettings:
    """Settings of generated answers.

    Attributes:
        max_new_tokens: Longest answer, in tokens.
        stop: Texts that end an answer.
        samples: Number of answers to each prompt.
        temperature: Sampling temperature; 0 for greedy decoding.
        seed: Seed of the samples.
    """

    max_new_tokens: int
    stop: tuple[str, ...] = ()
    samples: int = 1
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class GeneratedAnswers:
    """Answers to a prompt.

    Attributes:
        texts: The answers.
        truncated: True for each answer that was cut at the maximum length.
        prompt_tokens: Number of tokens of the prompt; None if the model does not say.
    """

    texts: tuple[str, ...]
    truncated: tuple[bool, ...]
    prompt_tokens: int | None = None


@dataclass(frozen=True)
class TooLong:
    """Request that does not fit the model's context, and was not made.

    Attributes:
        reason: The reason, as results count it.
    """

    reason: str


class EvaluatedModel(Protocol):
    """Model that is evaluated."""

    @property
    def info(self) -> EvaluatedModelInfo:
        """Identity and settings, for the results."""

    def log_likelihoods(
        self, requests: Sequence[tuple[Prompt, str]]
    ) -> list[LogLikelihood | TooLong]:
        """Return the log-likelihood of each continuation after its context."""

    def text_log_likelihoods(self, texts: Sequence[str]) -> Sequence[LogLikelihood | TooLong]:
        """Return the log-likelihood of each text, in windows if it exceeds the context."""

    def generate(
        self, prompts: Sequence[Prompt], settings: GenerationSettings
    ) -> list[GeneratedAnswers | TooLong]:
        """Return answers to each prompt."""


def until_stop(text: str, stops: Sequence[str]) -> str:
    """Return a text up to the first of the stops.

    Args:
        text: An answer.
        stops: Texts that end it.
    """
    ends = [position for stop in stops if (position := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
