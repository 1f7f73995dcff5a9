"""The log-probabilities of the next tokens, never with a whole batch of logits.

After `training/models/fused_log_probs.py`. On a GPU, TRL's kernel goes through the vocabulary tile by
tile; elsewhere the head runs on as many positions as a budget of logits allows, and is computed
again in the backward pass where there are more.
"""

from __future__ import annotations

from planning.memory.autograd import AutogradSimulator
from planning.memory.fused_log_probs import fused_log_probs
from planning.memory.ops import cast, linear, log_softmax
from planning.memory.parameters import MemoryConfig
from planning.memory.tensors import Grads, SimulatedParameter, SimulatedTensor

LOGITS = 2**24
"""Logits held at once where there are no tiles."""


def next_token_log_probs(
    tape: AutogradSimulator, hidden: SimulatedTensor, head: SimulatedParameter, config: MemoryConfig
) -> SimulatedTensor:
    """The log-probabilities of `hidden` [rows, length, width], every position supervised."""
    width = config.shape.hidden
    tokens = config.rows * (config.length - 1)
    found, ids = supervised_states(tape, hidden, tokens, width), tape.new(tokens, "int64")
    with tape.allocator.counted_as("logits"):
        if tape.device == "cuda":
            return fused_log_probs(tape, found, head, ids, width)
        return _in_chunks(tape, found, head, width)


def supervised_states(
    tape: AutogradSimulator, hidden: SimulatedTensor, tokens: int, width: int
) -> SimulatedTensor:
    """`hidden[:, :-1][mask]`; its gradient is written into zeros, once for each of the two."""
    tape.new(tokens, "bool")
    indices = tape.new(2 * tokens, "int64")

    def index_back(g: SimulatedTensor, saved: SimulatedTensor) -> Grads:
        return (tape.new(tokens * width, g.dtype),)

    sliced = slice_view(tape, hidden, tokens * width)
    return tape.record_op(tape.new(tokens * width, hidden.dtype), (sliced,), index_back, indices)


def slice_view(tape: AutogradSimulator, x: SimulatedTensor, count: int) -> SimulatedTensor:
    """A view of some of `x`; its gradient is written into zeros."""
    whole = x.count

    def backward(g: SimulatedTensor) -> Grads:
        return (tape.new(whole, g.dtype),)

    return tape.record_op(SimulatedTensor(count, x.dtype, x.storage), (x,), backward)


# --- in chunks --------------------------------------------------------------------------------


def _in_chunks(
    tape: AutogradSimulator, hidden: SimulatedTensor, head: SimulatedParameter, width: int
) -> SimulatedTensor:
    tokens, vocabulary = hidden.count // width, head.count // width
    rows = max(1, LOGITS // vocabulary)
    if tokens <= rows:
        return _log_probs(tape, head, width, hidden)
    parts = []
    for start in range(0, tokens, rows):
        # `split` puts the gradients of all parts together in one tensor.
        part = slice_view(tape, hidden, min(rows, tokens - start) * width)
        parts.append(tape.checkpoint(_Scored(tape, head, width), part))
        del part
    return _cat(tape, parts)


class _Scored:
    """The log-probabilities of a part, as a function of it."""

    def __init__(self, tape: AutogradSimulator, head: SimulatedParameter, width: int):
        self.tape, self.head, self.width = tape, head, width

    def __call__(self, x: SimulatedTensor) -> SimulatedTensor:
        return _log_probs(self.tape, self.head, self.width, x)


def _cat(tape: AutogradSimulator, parts: list[SimulatedTensor]) -> SimulatedTensor:
    total = sum(part.count for part in parts)

    def backward(g: SimulatedTensor) -> Grads:
        return tuple(SimulatedTensor(count, g.dtype, g.storage) for count in counts)

    counts = [part.count for part in parts]
    return tape.record_op(tape.new(total, "fp32"), tuple(parts), backward)


def _log_probs(
    tape: AutogradSimulator, head: SimulatedParameter, width: int, hidden: SimulatedTensor
) -> SimulatedTensor:
    """`-cross_entropy(head(hidden).float(), ids)`: keeps the log-softmax."""
    logits = cast(tape, linear(tape, hidden, head, width), "fp32")
    tokens = hidden.count // width
    soft = log_softmax(tape, logits)
    del logits
    return gather_token(tape, soft, tokens)


def gather_token(tape: AutogradSimulator, soft: SimulatedTensor, tokens: int) -> SimulatedTensor:
    """One log-probability of each row; keeps them all."""
    count = soft.count

    def backward(g: SimulatedTensor, saved: SimulatedTensor) -> Grads:
        return (tape.new(count, "fp32"),)

    return tape.record_op(tape.new(tokens, "fp32"), (soft,), backward, soft)
