"""TRL's fused log-probabilities, computed in tiles over tokens and vocabulary.

Models `trl/kernels/chunked_logprob.py` of trl 1.16. The Triton kernel reduces a tile in place; the
PyTorch fallback for other devices materializes several fp32 copies of each tile. The backward pass
recomputes the logits tile by tile, so that no `[tokens, vocabulary]` tensor is ever saved.
"""

from __future__ import annotations

from planning.memory.autograd import AutogradSimulator
from planning.memory.ops import as_tensor
from planning.memory.tensors import Grads, SimulatedParameter, SimulatedTensor

TILE_TOKENS = 4096
"""Tokens per tile (`TOKEN_CHUNK_SIZE` of TRL)."""
TILE_VOCABULARY = 32768
"""Vocabulary entries per tile (`_TILE` in `training/models/fused_log_probs.py`, which passes it to
TRL); the width of the buffer for a smaller vocabulary too."""


def fused_log_probs(
    tape: AutogradSimulator,
    hidden: SimulatedTensor,
    head: SimulatedParameter,
    ids: SimulatedTensor,
    width: int,
    *,
    outputs: int = 1,
) -> SimulatedTensor:
    """Return the log-probabilities of `ids` and, if `outputs` is 2, the entropies.

    Args:
        tape: Records the operations.
        hidden: Hidden states, `[tokens, width]`.
        head: Output embeddings, `[vocabulary, width]`.
        ids: Token ids, `[tokens]`.
        width: Size of a hidden state.
        outputs: Number of results per token.

    Returns:
        `[tokens]` or `[2, tokens]`, in fp32.
    """
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
    """Allocate and free the temporaries of one tile.

    Args:
        tape: Allocates.
        tokens: Tokens of the batch.
        vocabulary: Rows of the head.
        width: Size of a hidden state.
        types: Data types of the product, the hidden states and the head.
        backward: True for a tile of the backward pass, which holds more of them.
    """
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
        # Forward: z, then z - max (reused for e * z), and e = exp(z - max).
        held += [tape.new(size, "fp32") for _ in range(3)]
        return
    # Backward: y, z, log p, p, the gradient and two intermediate products; the boolean tensor
    # marks the target of each row.
    held += [tape.new(size, "fp32") for _ in range(7)]
    held.append(tape.new(size, "bool"))
