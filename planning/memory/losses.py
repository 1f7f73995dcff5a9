"""What is made of the last hidden states, for every kind of learning."""

from __future__ import annotations

from collections.abc import Callable

from planning.memory.autograd import AutogradSimulator, Grads, SimulatedParameter, SimulatedTensor
from planning.memory.distillation_loss import distance
from planning.memory.fused_log_probs import in_tiles
from planning.memory.log_probs import cut, next_tokens
from planning.memory.method_profile import Head
from planning.memory.ops import copy, linear
from planning.memory.parameters import MemoryConfig


def loss_of(
    tape: AutogradSimulator,
    hidden: SimulatedTensor,
    head: SimulatedParameter,
    recipe: MemoryConfig,
    known: SimulatedTensor | None,
) -> SimulatedTensor:
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
    tape: AutogradSimulator,
    hidden: SimulatedTensor,
    head: SimulatedParameter,
    recipe: MemoryConfig,
    known: SimulatedTensor | None,
) -> SimulatedTensor:
    return next_tokens(tape, hidden, head, recipe)


def values_of(
    tape: AutogradSimulator, hidden: SimulatedTensor, recipe: MemoryConfig
) -> SimulatedTensor:
    """What a critic expects after each token, in fp32 (`training/methods/ppo/critic.py`)."""
    whole = recipe.rows * recipe.length
    dtype = hidden.dtype

    def back(g: SimulatedTensor, kept: SimulatedTensor) -> Grads:
        # The outer product with the head, and its like in the body's own type.
        made = tape.new(whole * recipe.shape.hidden, "fp32")
        return (made if dtype == "fp32" else tape.new(made.count, dtype),)

    states = hidden if dtype == "fp32" else tape.new(hidden.count, "fp32")
    return tape.record(tape.new(whole, "fp32"), (hidden,), back, states)


def _score(
    tape: AutogradSimulator,
    hidden: SimulatedTensor,
    head: SimulatedParameter,
    recipe: MemoryConfig,
    known: SimulatedTensor | None,
) -> SimulatedTensor:
    """One number for each token, of which the last counts."""
    with tape.meter.belongs_to("logits"):
        return cut(tape, linear(tape, hidden, head, recipe.shape.hidden), recipe.rows)


def _answers(
    tape: AutogradSimulator,
    hidden: SimulatedTensor,
    head: SimulatedParameter,
    recipe: MemoryConfig,
    known: SimulatedTensor | None,
) -> SimulatedTensor:
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


_HEADS: dict[
    Head,
    Callable[
        [
            AutogradSimulator,
            SimulatedTensor,
            SimulatedParameter,
            MemoryConfig,
            SimulatedTensor | None,
        ],
        SimulatedTensor,
    ],
] = {
    "next tokens": _next_tokens,
    "score": _score,
    "soft": distance,
    "answers": _answers,
}
