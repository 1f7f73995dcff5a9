"""Divergences against their definitions, and tiling against the untiled loss."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

import training.methods.common.divergence as tiles
from training.methods.common.divergence import (
    DIVERGENCES,
    DistillationLoss,
    TiledDivergence,
    TopKTargets,
    keep_top_k,
)

TOKENS, WORDS, WIDTH = 37, 11, 6


@pytest.fixture(autouse=True)
def drawn() -> None:
    torch.manual_seed(0)


def by_definition(kind: str, p: torch.Tensor, q: torch.Tensor) -> float:
    """Return a divergence of probabilities, one logarithm at a time."""
    total = 0.0
    for row in range(len(p)):
        for word in range(p.shape[1]):
            a, b = float(p[row, word]), float(q[row, word])
            m = (a + b) / 2
            total += {
                "forward_kl": a * math.log(a / b),
                "reverse_kl": b * math.log(b / a),
                "js": a / 2 * math.log(a / m) + b / 2 * math.log(b / m),
            }[kind]
    return total


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("kind", DIVERGENCES)
def test_divergence_equals_its_definition(kind: str, temperature: float) -> None:
    loss = DistillationLoss(kind, temperature, 0.5)
    student, teacher = torch.randn(TOKENS, WORDS), torch.randn(TOKENS, WORDS)
    labels = torch.randint(WORDS, (TOKENS,))
    soft, hard = loss.summed(student, labels, TopKTargets(loss.log_softmax(teacher)))
    p, q = ((t.double() / temperature).softmax(-1) for t in (teacher, student))
    assert float(soft) == pytest.approx(temperature**2 * by_definition(kind, p, q), rel=1e-4)
    expected = sum(-math.log(student[i].softmax(-1)[labels[i]]) for i in range(TOKENS))
    assert float(hard) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_divergence_is_zero_only_for_equal_distributions(kind: str) -> None:
    loss = DistillationLoss(kind, 2.0, 1.0)
    student, labels = torch.randn(TOKENS, WORDS), torch.zeros(TOKENS, dtype=torch.long)
    same, _ = loss.summed(student, labels, TopKTargets(loss.log_softmax(student)))
    other, _ = loss.summed(
        student, labels, TopKTargets(loss.log_softmax(student + torch.randn(WORDS)))
    )
    assert abs(float(same)) < 1e-4 < float(other)


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_top_k_divergence_is_at_most_the_full_one(kind: str) -> None:
    loss = DistillationLoss(kind, 1.0, 1.0)
    student, teacher = torch.randn(TOKENS, WORDS), torch.randn(TOKENS, WORDS)
    labels = torch.zeros(TOKENS, dtype=torch.long)
    full, _ = loss.summed(student, labels, TopKTargets(loss.log_softmax(teacher)))
    values = []
    for top_k in range(1, WORDS + 1):
        value, _ = loss.summed(student, labels, keep_top_k(loss.log_softmax(teacher), top_k))
        values.append(float(value))
    assert all(fewer <= more + 1e-5 for fewer, more in itertools.pairwise(values))
    assert values[-1] == pytest.approx(float(full), rel=1e-4)
    assert values[0] < 0.9 * float(full)


def test_padding_of_the_vocabulary_does_not_count() -> None:
    loss = DistillationLoss("forward_kl", 1.0, 1.0)
    student, labels = torch.randn(TOKENS, WORDS), torch.zeros(TOKENS, dtype=torch.long)
    teacher = torch.cat([student, torch.full((TOKENS, 3), -30.0)], dim=1)
    soft, _ = loss.summed(student, labels, TopKTargets(loss.log_softmax(teacher)))
    assert abs(float(soft)) < 1e-3


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch, bias: bool, frozen: bool) -> None:
    """Loss and gradients equal those of all tokens at once for any tile size."""
    loss = DistillationLoss("js", 2.0, 0.3)
    teacher = TopKTargets(loss.log_softmax(torch.randn(TOKENS, WORDS)))
    labels = torch.randint(WORDS, (TOKENS,))
    start = [torch.randn(TOKENS, WIDTH), torch.randn(WORDS, WIDTH), torch.randn(WORDS)]

    def fresh() -> list[Any]:
        tensors = [t.clone().requires_grad_() for t in start]
        if frozen:
            tensors[1].requires_grad_(False)
        return tensors if bias else [*tensors[:2], None]

    hidden, weight, offset = plain = fresh()
    soft, hard = loss.summed(torch.nn.functional.linear(hidden, weight, offset), labels, teacher)
    (7.0 * (0.3 * soft + 0.7 * hard)).backward()

    def score(logits: torch.Tensor, tile: slice) -> Any:
        return loss.summed(logits, labels[tile], teacher[tile])

    for size in (5, TOKENS, 1000):
        monkeypatch.setattr(tiles, "LOGITS", size * WORDS)
        inputs = fresh()
        total, tiled_soft, tiled_hard = TiledDivergence.apply(*inputs, score, 0.3)
        assert float(tiled_soft) == pytest.approx(float(soft), rel=1e-5)
        assert float(tiled_hard) == pytest.approx(float(hard), rel=1e-5)
        (7.0 * total).backward()
        for ours, theirs in zip(inputs, plain, strict=True):
            if ours is not None and ours.requires_grad:
                assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    assert weight.grad is None or not frozen


def test_autocast_caches_a_single_cast_of_the_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss = DistillationLoss("forward_kl", 1.0, 0.5)
    teacher = TopKTargets(loss.log_softmax(torch.randn(TOKENS, WORDS)))
    labels = torch.randint(WORDS, (TOKENS,))
    hidden, weight = torch.randn(TOKENS, WIDTH), torch.randn(WORDS, WIDTH)
    casts: list[torch.Tensor] = []
    linear = torch.nn.functional.linear

    def recording(x: torch.Tensor, head: torch.Tensor, bias: Any) -> torch.Tensor:
        casts.append(head)
        return linear(x, head, bias)

    def score(logits: torch.Tensor, tile: slice) -> Any:
        return loss.summed(logits, labels[tile], teacher[tile])

    monkeypatch.setattr(torch.nn.functional, "linear", recording)
    results = []
    for size in (3, 1000):
        casts.clear()
        monkeypatch.setattr(tiles, "LOGITS", size * WORDS)
        inputs = [t.clone().requires_grad_() for t in (hidden, weight)]
        with torch.autocast("cpu", torch.bfloat16):
            total, _, _ = TiledDivergence.apply(*inputs, None, score, 0.5)
        total.backward()
        assert len(casts) == -(-TOKENS // size)
        # Autocast caches casts by leaf.
        assert len({id(head) for head in casts}) == 1
        results.append(inputs)
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours.grad, theirs.grad, rtol=0.05, atol=0.05)


def test_loss_without_supervised_tokens_is_zero() -> None:
    hidden = torch.randn(0, WIDTH, requires_grad=True)
    weight = torch.randn(WORDS, WIDTH, requires_grad=True)
    total, _, _ = TiledDivergence.apply(hidden, weight, None, None, 0.5)
    total.backward()
    assert float(total) == 0.0
    assert weight.grad is not None and not weight.grad.any()


def test_top_k_excludes_padding_of_the_vocabulary() -> None:
    log_probs = torch.log_softmax(torch.arange(12.0).repeat(3, 1), dim=-1)
    targets = keep_top_k(log_probs, 4, vocabulary_size=8)
    assert targets.ids is not None
    assert targets.ids.tolist() == [[7, 6, 5, 4]] * 3
    teacher, student = targets.align(torch.log_softmax(torch.zeros(3, 8), dim=-1))
    assert teacher.shape == student.shape == (3, 5)
