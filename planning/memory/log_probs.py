"""Log-probabilities of the next tokens without the logits of a complete batch.

Models `training/models/fused_log_probs.py`. On a GPU, TRL's kernel processes the vocabulary in
tiles. Elsewhere the head runs on chunks of positions, as many as a budget of logits allows, and
each chunk is recomputed in the backward pass.
"""

from __future__ import annotations

from planning.memory.autograd import AutogradSimulator
from planning.memory.fused_log_probs import fused_log_probs
from planning.memory.ops import cast, linear, log_softmax
from planning.memory.parameters import MemoryConfig
from planning.memory.tensors import Grads, SimulatedParameter, SimulatedTensor

LOGITS = 2**24
"""Logits that may be live at once if the head runs in chunks."""


def next_token_log_probs(
    tape: AutogradSimulator, hidden: SimulatedTensor, head: SimulatedParameter, config: MemoryConfig
) -> SimulatedTensor:
    """Return the log-probabilities of the next tokens, taking every position as supervised.

    Args:
        tape: Records the operations.
        hidden: Last hidden states, `[rows, length, width]`.
        head: Output embeddings, `[vocabulary, width]`.
        config: The simulated job.

    Returns:
        Log-probabilities, `[rows * (length - 1)]`, in fp32.
    """
    width = config.shape.hidden
    tokens = config.rows * (config.length - 1)
    states, ids = supervised_states(tape, hidden, tokens, width), tape.new(tokens, "int64")
    with tape.allocator.counted_as("logits"):
        if tape.device == "cuda":
            return fused_log_probs(tape, states, head, ids, width)
        return _chunked_log_probs(tape, states, head, width)


def supervised_states(
    tape: AutogradSimulator, hidden: SimulatedTensor, tokens: int, width: int
) -> SimulatedTensor:
    """Return `hidden[:, :-1][mask]`, `[tokens, width]`.

    Both indexing operations scatter their gradient into a new tensor of zeros.

    Args:
        tape: Records the operations.
        hidden: Last hidden states, `[rows, length, width]`.
        tokens: Number of supervised positions.
        width: Size of a hidden state.
    """
    tape.new(tokens, "bool")
    indices = tape.new(2 * tokens, "int64")

    def index_back(g: SimulatedTensor, saved: SimulatedTensor) -> Grads:
        return (tape.new(tokens * width, g.dtype),)

    sliced = slice_view(tape, hidden, tokens * width)
    return tape.record_op(tape.new(tokens * width, hidden.dtype), (sliced,), index_back, indices)


def slice_view(tape: AutogradSimulator, x: SimulatedTensor, count: int) -> SimulatedTensor:
    """Return a view of some elements of `x`; its gradient is copied into a tensor of zeros.

    Args:
        tape: Records the operation.
        x: Input.
        count: Number of elements of the view.
    """
    whole = x.count

    def backward(g: SimulatedTensor) -> Grads:
        return (tape.new(whole, g.dtype),)

    return tape.record_op(SimulatedTensor(count, x.dtype, x.storage), (x,), backward)


# --- in chunks --------------------------------------------------------------------------------


def _chunked_log_probs(
    tape: AutogradSimulator, hidden: SimulatedTensor, head: SimulatedParameter, width: int
) -> SimulatedTensor:
    tokens, vocabulary = hidden.count // width, head.count // width
    rows = max(1, LOGITS // vocabulary)
    if tokens <= rows:
        return _log_probs(tape, head, width, hidden)
    parts = []
    for start in range(0, tokens, rows):
        # The backward of `split` concatenates the gradients of all chunks into one tensor.
        part = slice_view(tape, hidden, min(rows, tokens - start) * width)
        parts.append(tape.checkpoint(_ChunkLogProbs(tape, head, width), part))
        del part
    return _cat(tape, parts)


class _ChunkLogProbs:
    """Function from the hidden states of a chunk to its log-probabilities.

    A class, because a closure would keep the loop variables of its caller alive.
    """

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
    """Return `-cross_entropy(head(hidden).float(), ids)`, which saves the log-softmax."""
    logits = cast(tape, linear(tape, hidden, head, width), "fp32")
    tokens = hidden.count // width
    soft = log_softmax(tape, logits)
    del logits
    return gather_token(tape, soft, tokens)


def gather_token(tape: AutogradSimulator, soft: SimulatedTensor, tokens: int) -> SimulatedTensor:
    """Return the log-probability of one token per position; the full log-softmax is saved.

    Args:
        tape: Records the operation.
        soft: Log-softmax, `[tokens, vocabulary]`.
        tokens: Number of positions.
    """
    count = soft.count

    def backward(g: SimulatedTensor, saved: SimulatedTensor) -> Grads:
        return (tape.new(count, "fp32"),)

    return tape.record_op(tape.new(tokens, "fp32"), (soft,), backward, soft)
