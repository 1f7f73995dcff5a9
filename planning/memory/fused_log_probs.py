"""TRL's kernel for log-probabilities: tile by tile over tokens and vocabulary.

After trl 1.16, `trl/kernels/chunked_logprob.py`. On a GPU the kernel folds a tile where it lies; in
plain PyTorch, elsewhere, a tile is written out in fp32 several times.
"""

from __future__ import annotations

from planning.memory.autograd import AutogradSimulator
from planning.memory.ops import as_tensor
from planning.memory.tensors import Grads, SimulatedParameter, SimulatedTensor

TILE_TOKENS = 4096
"""Tokens per tile (`TOKEN_CHUNK_SIZE`)."""
TILE_VOCABULARY = 32768
"""Pieces per tile (`_TILE`); the buffer is as wide even where the vocabulary is not."""


def fused_log_probs(
    tape: AutogradSimulator,
    hidden: SimulatedTensor,
    head: SimulatedParameter,
    ids: SimulatedTensor,
    width: int,
    *,
    outputs: int = 1,
) -> SimulatedTensor:
    """The log-probabilities of `ids`, and entropies where two `outputs` are asked for."""
    tokens, vocabulary = hidden.count // width, head.count // width
    dtype, before = tape.autocast or hidden.dtype, hidden.dtype
    wants_hidden, wants_head = hidden.node is not None, head.requires_grad
    types = (dtype, before, head.dtype)

    def backward(g: SimulatedTensor, *saved: SimulatedTensor) -> Grads:
        with tape.allocator.counted_as("logits"):
            whole = _whole(tape, head)
            of_hidden = tape.new(tokens * width, "fp32") if wants_hidden else None
            of_head = tape.new(head.count, "fp32") if wants_head else None
            _tile(tape, tokens, vocabulary, width, types, backward=True)
            if of_hidden is not None and before != "fp32":
                of_hidden = tape.new(tokens * width, before)
            if of_head is not None and head.dtype != "fp32":
                of_head = tape.new(head.count, head.dtype)
            del whole
            return of_hidden, of_head

    whole = _whole(tape, head)
    statistics = [tape.new(tokens, "fp32") for _ in range(7)]
    _tile(tape, tokens, vocabulary, width, types, backward=False)
    log_z, out = tape.new(tokens, "fp32"), tape.new(tokens * outputs, "fp32")
    del statistics, whole
    return tape.record_op(
        out, (hidden, as_tensor(head)), backward, hidden, as_tensor(head), ids, log_z
    )


def _whole(tape: AutogradSimulator, head: SimulatedParameter) -> SimulatedTensor | None:
    return (
        tape.gather_hook.gathered(head) if tape.gather_hook is not None and head.sharded else None
    )


def _tile(
    tape: AutogradSimulator,
    tokens: int,
    vocabulary: int,
    width: int,
    types: tuple[str, str, str],
    *,
    backward: bool,
) -> None:
    """What one tile needs."""
    dtype, of_hidden, of_weight = types
    n, columns = min(tokens, TILE_TOKENS), min(vocabulary, TILE_VOCABULARY)
    held = [tape.new(n * TILE_VOCABULARY, dtype)]
    if of_hidden != dtype:
        held.append(tape.new(n * width, dtype))
    if of_weight != dtype:
        held.append(tape.new(columns * width, dtype))
    if tape.device == "cuda":
        return
    size = n * columns
    if not backward:
        # z, z - max or e * z, and e
        held += [tape.new(size, "fp32") for _ in range(3)]
        return
    # y, z, log p, p and the gradient, which target each row has, and two steps towards it
    held += [tape.new(size, "fp32") for _ in range(7)]
    held.append(tape.new(size, "bool"))
