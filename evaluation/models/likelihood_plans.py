"""Plans of log-likelihoods at an endpoint: which prompts are sent, and how the echo is read.

Without a tokenizer, text is sent. The tokens of a context are counted by a request of its own, as
lm-eval counts them with the tokenizer. With one, token ids are sent, the same that a local
evaluation scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from evaluation.models.base import LogLikelihood
from evaluation.models.echoed_log_probs import EchoedPrompt
from evaluation.models.windows import TokenRequest

EchoPrompt = str | tuple[int, ...]
"""Prompt whose log-probabilities are requested."""
Echo = Callable[[EchoPrompt], EchoedPrompt]
"""Returns the log-probabilities of a prompt that was requested before."""
PROBE = "The three numbers are 17, 42 and 108."
"""ASCII text without special tokens, by which an endpoint is examined."""


class LikelihoodPlan(Protocol):
    """Requests whose log-probabilities give a log-likelihood."""

    @property
    def prompts(self) -> list[EchoPrompt]:
        """Prompts to send."""

    def read(self, echo: Echo) -> LogLikelihood:
        """Return the log-likelihood from their log-probabilities."""


class TextContinuation:
    """Log-likelihood of a text after a context, both sent as text.

    Args:
        context: The context. White space at its end moves to the continuation, as it does with a
            tokenizer.
        continuation: The text.
        starts_before: True if the endpoint puts a token of its own before a text.
    """

    def __init__(self, context: str, continuation: str, *, starts_before: bool):
        self._context = context.rstrip()
        self._text = context + continuation
        self._starts_before = starts_before

    @property
    def prompts(self) -> list[EchoPrompt]:
        """Prompts to send."""
        return [self._context, self._text] if self._context else [self._text]

    def read(self, echo: Echo) -> LogLikelihood:
        """Return the log-likelihood of the tokens that the context alone does not have."""
        context = self._context
        start = len(echo(context).log_probs) if context else int(self._starts_before)
        return _likelihood(echo(self._text), start)


class WholeText:
    """Log-likelihood of a whole text, sent as text.

    Args:
        text: The text.
        starts_before: True if the endpoint puts a token of its own before a text.
    """

    def __init__(self, text: str, *, starts_before: bool):
        self._text, self._starts_before = text, starts_before

    @property
    def prompts(self) -> list[EchoPrompt]:
        """Prompts to send."""
        return [self._text] if self._text else []

    def read(self, echo: Echo) -> LogLikelihood:
        """Return the log-likelihood of every token of the text that has one."""
        if not self._text:
            return LogLikelihood(0.0, 0, True)
        return _likelihood(echo(self._text), int(self._starts_before))


class TokenWindows:
    """Log-likelihood of tokens, in one window or several.

    Args:
        windows: Tokens with those before them.
    """

    def __init__(self, windows: Sequence[TokenRequest]):
        self._windows = windows

    @property
    def prompts(self) -> list[EchoPrompt]:
        """Prompts to send."""
        return [_ids(window) for window in self._windows]

    def read(self, echo: Echo) -> LogLikelihood:
        """Return the sum of the log-likelihoods of the windows."""
        parts = [_likelihood(echo(_ids(one)), len(one.context)) for one in self._windows]
        return LogLikelihood(
            sum(part.nats for part in parts),
            sum(part.tokens for part in parts),
            all(part.greedy for part in parts),
            parts[0].context_tokens if parts else 0,
        )


def _ids(window: TokenRequest) -> tuple[int, ...]:
    return (*window.context, *window.continuation)


def _likelihood(echoed: EchoedPrompt, start: int) -> LogLikelihood:
    scored = [value for value in echoed.log_probs[start:] if value is not None]
    # A token without a log-probability is not known to be the most likely one.
    greedy = len(scored) == len(echoed.log_probs[start:]) and all(echoed.greedy[start:])
    return LogLikelihood(echoed.nats(start), len(scored), greedy, start)
