"""Choice of the next token, and log-probabilities.

A sample is the inverse transform of uniform numbers that its own stream gives, as in
`training/models/generate.py`: the same request gets the same answer, whatever shares its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplingSettings:
    """Settings by which the tokens of an answer are chosen.

    Attributes:
        temperature: Divisor of the logits; 0 chooses the most likely token.
        top_p: Share of the probability from which tokens are drawn, the most likely first.
        top_k: Number of the most likely tokens from which one is drawn; 0 for all.
        seed: Numbers that determine the stream; None for one that no other answer has.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: tuple[int, ...] | None = None

    def stream(self) -> np.random.Generator:
        """Return a new stream of uniform numbers."""
        return np.random.default_rng(None if self.seed is None else list(self.seed))


def choose_tokens(
    logits: Tensor, settings: Sequence[SamplingSettings], streams: Sequence[np.random.Generator]
) -> list[int]:
    """Return the next token of each answer.

    Args:
        logits: Logits in fp32, [answers, vocabulary].
        settings: Settings of each answer.
        streams: Stream of each answer; a greedy one takes nothing from it.
    """
    chosen = logits.argmax(dim=-1)
    drawn = [index for index, one in enumerate(settings) if one.temperature]
    if drawn:
        draws = [streams[index].random() for index in drawn]
        subset = [settings[index] for index in drawn]
        chosen[drawn] = _draw(logits[drawn], subset, draws)
    tokens: list[int] = chosen.tolist()
    return tokens


def _draw(logits: Tensor, settings: Sequence[SamplingSettings], draws: list[float]) -> Tensor:
    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=logits.device)[:, None]

    scores = logits.double() / column([one.temperature for one in settings])
    _truncate(scores, settings)
    cumulative = torch.softmax(scores, dim=-1).cumsum(dim=-1)
    # The last sum is 1 up to rounding. Tokens of probability 0 add nothing and are never chosen.
    target = column(draws) * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, target, right=True)[:, 0]
    return chosen.clamp(max=logits.shape[-1] - 1)


def _truncate(scores: Tensor, settings: Sequence[SamplingSettings]) -> None:
    """Exclude tokens by top-k, then by top-p, in place."""
    for row, one in enumerate(settings):
        if 0 < one.top_k < scores.shape[-1]:
            least = scores[row].topk(one.top_k).values[-1]
            scores[row].masked_fill_(scores[row] < least, -torch.inf)
    rows = [row for row, one in enumerate(settings) if one.top_p < 1]
    if not rows:
        return
    shares = torch.tensor([settings[row].top_p for row in rows], dtype=scores.dtype)
    ordered, order = scores[rows].sort(dim=-1, descending=True)
    probabilities = torch.softmax(ordered, dim=-1)
    # The token that crosses the share stays in, and the most likely one in any case.
    before = probabilities.cumsum(dim=-1) - probabilities
    before[:, 0] = -1
    ordered.masked_fill_(before >= shares.to(scores.device)[:, None], -torch.inf)
    scores[rows] = torch.empty_like(ordered).scatter_(1, order, ordered)


@dataclass(frozen=True)
class TokenLogProb:
    """Log-probability of a token, as the model states it before any setting of the sampling.

    Attributes:
        token: Id of the token.
        log_prob: Its log-probability.
        top: The most likely tokens at its place with theirs, most likely first.
    """

    token: int
    log_prob: float
    top: tuple[tuple[int, float], ...] = ()


def log_probs_of(logits: Tensor, tokens: Sequence[int], top: int) -> list[TokenLogProb]:
    """Return the log-probability of a token at each place.

    Args:
        logits: Logits in fp32, [places, vocabulary].
        tokens: Token at each place.
        top: Number of the most likely tokens to report.
    """
    if not tokens:
        return []
    log_probs = logits.log_softmax(dim=-1)
    own = log_probs.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0].tolist()
    if not top:
        return [TokenLogProb(*pair) for pair in zip(tokens, own, strict=True)]
    values, ids = log_probs.topk(min(top, log_probs.shape[-1]), dim=-1)
    best = zip(ids.tolist(), values.tolist(), strict=True)
    return [
        TokenLogProb(token, value, tuple(zip(*pair, strict=True)))
        for token, value, pair in zip(tokens, own, best, strict=True)
    ]
