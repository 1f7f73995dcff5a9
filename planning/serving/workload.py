"""Requests that a server is planned for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WeightDtype = Literal["bf16", "fp8"]
DEFAULT_CONTEXT = 4096
"""Tokens of the longest request if the user names none; less if the model's context is shorter."""


@dataclass(frozen=True)
class ServingWorkload:
    """Requests of a server, and what they must reach.

    Attributes:
        prompt_tokens: Tokens of a prompt, on average.
        answer_tokens: Tokens of an answer, on average.
        context: Tokens of the longest request, prompt and answer together.
        sequences: Largest number of requests that are decoded together; vLLM's `max_num_seqs`,
            256 by default.
        max_ttft_s: Longest time to the first token; None for no limit.
        max_token_s: Longest time between two tokens; None for no limit.
        requests_per_s: Rate of requests at the busiest time; None if it is not known.
        shared_tokens: Tokens with which every prompt begins, such as examples. A server with
            prefix caching computes them once
            (https://docs.vllm.ai/en/latest/features/automatic_prefix_caching.html).
    """

    prompt_tokens: int
    answer_tokens: int
    context: int
    sequences: int = 256
    max_ttft_s: float | None = None
    max_token_s: float | None = None
    requests_per_s: float | None = None
    shared_tokens: int = 0

    @property
    def cached_tokens(self) -> float:
        """Tokens in the cache of a request, on average over its decoding."""
        return self.prompt_tokens + self.answer_tokens / 2
