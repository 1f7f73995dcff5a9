"""Log-likelihoods of tokens by a causal language model, each distinct prefix computed once."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from evaluation.models.base import LogLikelihood
from evaluation.models.windows import TokenRequest


def compute_likelihoods(
    model: Any, requests: Sequence[TokenRequest], batch_size: int
) -> list[LogLikelihood]:
    """Return the log-likelihood of each request.

    Args:
        model: Causal language model of Transformers.
        requests: Tokens whose likelihood is asked.
        batch_size: Sequences per forward pass.
    """
    inputs = [request.ids for request in requests]
    row_of = shared_rows(inputs)
    asked: dict[int, list[int]] = {}
    for number, row in enumerate(row_of):
        asked.setdefault(row, []).append(number)
    order = sorted(asked, key=lambda row: len(inputs[row]), reverse=True)
    results: dict[int, LogLikelihood] = {}
    for batch in batches(order, batch_size):
        numbers = [asked[row] for row in batch]
        starts = [len(requests[number].context) - 1 for row in numbers for number in row]
        first = min(*starts, len(inputs[batch[0]]) - 1)
        logits = _logits(model, [inputs[row] for row in batch], first)
        for index, of_row in enumerate(numbers):
            for number in of_row:
                start = len(requests[number].context) - 1 - first
                results[number] = _likelihood(requests[number], logits[index, start:])
    return [results[number] for number in range(len(requests))]


def shared_rows(inputs: Sequence[Sequence[int]]) -> list[int]:
    """Return for each input the number of the longest input that starts with it.

    A causal model computes the same at the positions of a prefix, whatever follows. The choices of
    an item that have one token each are therefore one row.
    """
    order = sorted(range(len(inputs)), key=lambda number: tuple(inputs[number]))
    rows = list(range(len(inputs)))
    # An input that is the beginning of any other is the beginning of the next in sorted order.
    for number, following in zip(reversed(order[:-1]), reversed(order[1:]), strict=True):
        beginning = inputs[number]
        if inputs[following][: len(beginning)] == beginning:
            rows[number] = rows[following]
    return rows


def batches(order: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield the numbers in batches."""
    for start in range(0, len(order), size):
        yield list(order[start : start + size])


def even_batches(order: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield the numbers in batches of about the same size.

    A remainder of at most an eighth of a batch is spread over the others: a batch takes as many
    decoding steps for two answers as for sixteen.
    """
    whole, remainder = divmod(len(order), size)
    count = whole if whole and remainder <= size // 8 else whole + bool(remainder)
    start = 0
    for number in range(count):
        end = start + (len(order) - start) // (count - number)
        yield list(order[start:end])
        start = end


def _logits(model: Any, rows: Sequence[list[int]], first: int) -> torch.Tensor:
    """Return logits of rows from a position on, [rows, positions, vocabulary].

    Args:
        model: The model.
        rows: Input ids; the first row is the longest.
        first: First position whose logits are needed.
    """
    width = len(rows[0])
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=model.device)
    selects = "logits_to_keep" in inspect.signature(model.forward).parameters
    # No mask is needed: padding is on the right, and attention is causal.
    with torch.inference_mode():
        if selects:
            logits = model(ids, use_cache=False, logits_to_keep=width - first).logits
        else:
            logits = model(ids, use_cache=False).logits[:, first:]
    assert isinstance(logits, torch.Tensor)
    return logits


def _likelihood(request: TokenRequest, logits: torch.Tensor) -> LogLikelihood:
    """Return the log-likelihood of a request from logits that start before its first token."""
    tokens = torch.tensor(request.continuation, device=logits.device)
    scores = logits[: len(tokens)].float()
    chosen = scores.gather(1, tokens[:, None])[:, 0]
    nats = (chosen - scores.logsumexp(-1)).sum()
    greedy = (scores.argmax(-1) == tokens).all()
    return LogLikelihood(float(nats), len(tokens), bool(greedy), len(request.context))
