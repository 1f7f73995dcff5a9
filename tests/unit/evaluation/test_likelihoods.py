"""Requests that share a beginning share a row, and nothing else changes."""

from __future__ import annotations

import inspect
import random
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from evaluation.models.likelihoods import compute_likelihoods, even_batches, shared_rows
from evaluation.models.windows import TokenRequest


def test_rows_are_the_longest_inputs_with_a_common_prefix() -> None:
    inputs = [[1, 2], [1, 2, 3], [1], [2, 2], [1, 2, 3], [1, 2, 4, 5], []]
    rows = shared_rows(inputs)
    for number, row in enumerate(rows):
        assert inputs[row][: len(inputs[number])] == inputs[number]
    assert len(set(rows)) == 3
    assert shared_rows([]) == []


def test_shared_rows_are_as_few_as_a_pairwise_search_finds() -> None:
    generator = random.Random(0)
    inputs = [generator.choices((1, 2), k=generator.randint(0, 5)) for _ in range(60)]
    needed = [
        row for row in {tuple(row) for row in inputs}
        if not any(other[: len(row)] == list(row) and len(other) > len(row) for other in inputs)
    ]  # fmt: skip
    assert len(set(shared_rows(inputs))) == len(needed)


def test_a_small_remainder_is_spread_over_the_batches() -> None:
    for number, size, wanted in (
        (50, 16, [16, 17, 17]),
        (51, 16, [12, 13, 13, 13]),
        (18, 16, [18]),
        (19, 16, [9, 10]),
        (3, 16, [3]),
        (5, 1, [1] * 5),
        (0, 16, []),
    ):
        found = list(even_batches(range(number), size))
        assert [len(batch) for batch in found] == wanted
        assert [one for batch in found for one in batch] == list(range(number))


def test_choices_of_one_token_are_one_row_and_score_as_alone(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()
    contexts = [[1, 5, 9, 12], [1, 7], [1, 5, 9, 12, 30, 31]]
    requests = [TokenRequest(context, [token]) for context in contexts for token in (3, 4, 5)]
    requests += [TokenRequest(contexts[0], [3, 4, 5]), TokenRequest(contexts[1], [])]
    shapes: list[Any] = []
    forward = type(model).forward

    def recorded(self: Any, ids: torch.Tensor, **options: Any) -> Any:
        shapes.append((*ids.shape, options["logits_to_keep"]))
        return forward(self, ids, **options)

    alone = [compute_likelihoods(model, [request], 1)[0] for request in requests]
    recorded.__signature__ = inspect.signature(forward)
    monkeypatch.setattr(type(model), "forward", recorded)
    together = compute_likelihoods(model, requests, 8)
    assert shapes == [(3, 6, 5)]
    for one, other in zip(alone, together, strict=True):
        assert one.nats == pytest.approx(other.nats, abs=1e-5)
        assert (one.tokens, one.greedy, one.context_tokens) == (
            other.tokens,
            other.greedy,
            other.context_tokens,
        )
