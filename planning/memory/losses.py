"""Outputs of the head that each kind of loss is computed from."""

from __future__ import annotations

from collections.abc import Callable

from planning.memory.autograd import AutogradSimulator
from planning.memory.distillation_loss import distillation_loss
from planning.memory.fused_log_probs import fused_log_probs
from planning.memory.log_probs import next_token_log_probs, slice_view
from planning.memory.method_profile import Head
from planning.memory.ops import copy, linear
from planning.memory.parameters import MemoryConfig
from planning.memory.tensors import Grads, SimulatedParameter, SimulatedTensor


def head_outputs(
    tape: AutogradSimulator,
    hidden: SimulatedTensor,
    head: SimulatedParameter,
    config: MemoryConfig,
    teacher_log_probs: SimulatedTensor | None,
) -> SimulatedTensor:
    """Return the tensor that the loss of the job's method is computed from.

    Args:
        tape: Records the operations.
        hidden: Last hidden states after the final norm, `[rows, length, width]`.
        head: Output embeddings, or the weights of a score head.
        config: The simulated job.
        teacher_log_probs: Log-probabilities of a teacher, if the method has one.
    """
    return _HEADS[config.method.head](tape, hidden, head, config, teacher_log_probs)


def _next_tokens(
    tape: AutogradSimulator,
    hidden: SimulatedTensor,
    head: SimulatedParameter,
    config: MemoryConfig,
    teacher_log_probs: SimulatedTensor | None,
) -> SimulatedTensor:
    return next_token_log_probs(tape, hidden, head, config)


def critic_values(
    tape: AutogradSimulator, hidden: SimulatedTensor, config: MemoryConfig
) -> SimulatedTensor:
    """Return the critic's value of each token in fp32 (`training/methods/ppo/critic.py`).

    Args:
        tape: Records the operations.
        hidden: Last hidden states of the critic, `[rows, length, width]`.
        config: The simulated job.

    Returns:
        `[rows, length]`.
    """
    whole = config.rows * config.length
    dtype = hidden.dtype

    def backward(g: SimulatedTensor, saved: SimulatedTensor) -> Grads:
        # Outer product of the gradient and the head in fp32, then its cast to the body's dtype.
        made = tape.new(whole * config.shape.hidden, "fp32")
        return (made if dtype == "fp32" else tape.new(made.count, dtype),)

    states = hidden if dtype == "fp32" else tape.new(hidden.count, "fp32")
    return tape.record_op(tape.new(whole, "fp32"), (hidden,), backward, states)


def _score(
    tape: AutogradSimulator,
    hidden: SimulatedTensor,
    head: SimulatedParameter,
    config: MemoryConfig,
    teacher_log_probs: SimulatedTensor | None,
) -> SimulatedTensor:
    """Return one score per row: that of its last token, after scoring every token."""
    with tape.allocator.counted_as("logits"):
        return slice_view(tape, linear(tape, hidden, head, config.shape.hidden), config.rows)


def _answers(
    tape: AutogradSimulator,
    hidden: SimulatedTensor,
    head: SimulatedParameter,
    config: MemoryConfig,
    teacher_log_probs: SimulatedTensor | None,
) -> SimulatedTensor:
    """Return log-probabilities and entropies of the sampled tokens.

    TRL selects the completion tokens only on a device with Triton; elsewhere it computes those of
    the prompt as well.
    """
    rollout, width = config.method.rollout, config.shape.hidden
    assert rollout is not None
    before = config.rows * (config.length - 1)
    tokens = config.rows * rollout.new if tape.device == "cuda" else before
    x = copy(tape, slice_view(tape, hidden, before * width), tokens * width)
    ids = tape.new(tokens, "int64")
    with tape.allocator.counted_as("logits"):
        return fused_log_probs(tape, x, head, ids, width, outputs=2)


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
    "soft": distillation_loss,
    "answers": _answers,
}
