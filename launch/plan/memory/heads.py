"""What is made of the last hidden states, for every kind of learning."""

from __future__ import annotations

from collections.abc import Callable

from launch.plan.memory.learning import Head
from launch.plan.memory.next_tokens import cut, next_tokens
from launch.plan.memory.ops import copy, linear
from launch.plan.memory.soft import distance
from launch.plan.memory.tape import Grads, Tape, Tensor, Weight
from launch.plan.memory.tiles import in_tiles
from launch.plan.memory.weights import Recipe


def loss_of(
    tape: Tape, hidden: Tensor, head: Weight, recipe: Recipe, known: Tensor | None
) -> Tensor:
    """What the loss is made from.

    Args:
        tape: Records.
        hidden: Of the last layer, normed, [rows, length, width].
        head: Output weights.
        recipe: What is rehearsed.
        known: What a teacher said.
    """
    return _HEADS[recipe.learning.head](tape, hidden, head, recipe, known)


def _next_tokens(
    tape: Tape, hidden: Tensor, head: Weight, recipe: Recipe, known: Tensor | None
) -> Tensor:
    return next_tokens(tape, hidden, head, recipe)


def values_of(tape: Tape, hidden: Tensor, recipe: Recipe) -> Tensor:
    """What a critic expects after each token, in fp32 (`training/methods/ppo/critic.py`)."""
    whole = recipe.rows * recipe.length
    dtype = hidden.dtype

    def back(g: Tensor, kept: Tensor) -> Grads:
        # The outer product with the head, and its like in the body's own type.
        made = tape.new(whole * recipe.shape.hidden, "fp32")
        return (made if dtype == "fp32" else tape.new(made.count, dtype),)

    states = hidden if dtype == "fp32" else tape.new(hidden.count, "fp32")
    return tape.record(tape.new(whole, "fp32"), (hidden,), back, states)


def _score(
    tape: Tape, hidden: Tensor, head: Weight, recipe: Recipe, known: Tensor | None
) -> Tensor:
    """One number for each token, of which the last counts."""
    with tape.meter.belongs_to("logits"):
        return cut(tape, linear(tape, hidden, head, recipe.shape.hidden), recipe.rows)


def _answers(
    tape: Tape, hidden: Tensor, head: Weight, recipe: Recipe, known: Tensor | None
) -> Tensor:
    """Log-probabilities and entropies of sampled tokens; in plain PyTorch, of all tokens.

    TRL takes the supervised positions out only where Triton runs.
    """
    rollout, width = recipe.learning.rollout, recipe.shape.hidden
    assert rollout is not None
    before = recipe.rows * (recipe.length - 1)
    tokens = recipe.rows * rollout.new if tape.device == "cuda" else before
    x = copy(tape, cut(tape, hidden, before * width), tokens * width)
    ids = tape.new(tokens, "int64")
    with tape.meter.belongs_to("logits"):
        return in_tiles(tape, x, head, ids, width, outputs=2)


_HEADS: dict[Head, Callable[[Tape, Tensor, Weight, Recipe, Tensor | None], Tensor]] = {
    "next tokens": _next_tokens,
    "score": _score,
    "soft": distance,
    "answers": _answers,
}
