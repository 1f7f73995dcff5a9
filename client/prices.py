"""Price of an answer by its tokens."""

from __future__ import annotations

from dataclasses import dataclass

from client.chat import TokenUsage


@dataclass(frozen=True, slots=True)
class TokenRates:
    """Prices of an endpoint in US dollars per million tokens.

    Attributes:
        input: Tokens of prompts.
        output: Tokens of answers.
        cached_input: Tokens that were read from a prompt cache; as `input` if None.
        cache_write: Tokens that were written to it; as `input` if None.
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None

    def cost_usd(self, usage: TokenUsage) -> float:
        """Return the price of an answer."""
        cached = self.input if self.cached_input is None else self.cached_input
        written = self.input if self.cache_write is None else self.cache_write
        total = usage.input * self.input + usage.output * self.output
        return (total + usage.cached_input * cached + usage.cache_write * written) / 1e6
