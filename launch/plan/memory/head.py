"""The loss: TRL's fused head, which projects to the vocabulary tile by tile.

After trl 1.16, `trl/kernels/chunked_logprob.py` and `add_fused_lm_head`, with what its SFT trainer
asks for (log-probabilities, entropy, whether the label is the likeliest). Logits of a whole batch
are never there at once; the tile is as wide as `VOCABULARY` even where the vocabulary is not.
"""

from __future__ import annotations

from launch.plan.memory.ops import copy, read
from launch.plan.memory.tape import Grads, Tape, Tensor, Weight

TOKENS = 4096
"""Tokens per tile (`TOKEN_CHUNK_SIZE`)."""
VOCABULARY = 32768
"""Pieces per tile (`_CHUNKED_LOGPROB_CHUNK_SIZE`)."""


def loss(tape: Tape, hidden: Tensor, head: Weight, rows: int, length: int, width: int) -> Tensor:
    """The summed loss of `hidden` [rows, length, width]."""
    tokens = rows * (length - 1)
    if rows > 1 or tape.device == "cuda":
        hidden = copy(tape, hidden, tokens * width)
    labels = tape.new(tokens, "int64")
    with tape.meter.belongs_to("logits"):
        return _log_probs(tape, hidden, head, labels, width)


def _log_probs(tape: Tape, hidden: Tensor, head: Weight, labels: Tensor, width: int) -> Tensor:
    tokens, vocabulary = hidden.count // width, head.count // width
    dtype = tape.autocast or hidden.dtype
    before = hidden.dtype
    wants_hidden, wants_head = hidden.node is not None, head.learns

    def back(g: Tensor, *kept: Tensor) -> Grads:
        with tape.meter.belongs_to("logits"):
            whole = _whole(tape, head)
            of_hidden = tape.new(tokens * width, "fp32") if wants_hidden else None
            of_head = tape.new(head.count, "fp32") if wants_head else None
            _tiles(tape, tokens, vocabulary, width, (dtype, before, head.dtype), of_head)
            if of_hidden is not None and before != "fp32":
                of_hidden = tape.new(tokens * width, before)
            if of_head is not None and head.dtype != "fp32":
                of_head = tape.new(head.count, head.dtype)
            del whole
            return of_hidden, of_head

    whole = _whole(tape, head)
    statistics = [tape.new(tokens, "fp32") for _ in range(7)]
    _tiles(tape, tokens, vocabulary, width, (dtype, before, head.dtype), None, forward=True)
    log_z, entropy = tape.new(tokens, "fp32"), tape.new(tokens, "fp32")
    out = tape.new(tokens, "fp32")
    del statistics, whole
    return tape.record(out, (hidden, read(head)), back, hidden, read(head), labels, log_z, entropy)


def _whole(tape: Tape, head: Weight) -> Tensor | None:
    return tape.gate.gathered(head) if tape.gate is not None and head.sharded else None


def _tiles(
    tape: Tape,
    tokens: int,
    vocabulary: int,
    width: int,
    types: tuple[str, str, str],
    of_head: Tensor | None,
    *,
    forward: bool = False,
) -> None:
    """What one tile needs at its fullest."""
    dtype, of_hidden, of_weight = types
    n, columns = min(tokens, TOKENS), min(vocabulary, VOCABULARY)
    held = [tape.new(n * VOCABULARY, dtype)]
    if of_hidden != dtype:
        held.append(tape.new(n * width, dtype))
    if of_weight != dtype:
        held.append(tape.new(columns * width, dtype))
    if tape.device == "cuda":
        return  # Triton folds the tile where it lies
    if forward:
        _fold_forward(tape, n * columns, dtype)
    else:
        _fold_backward(tape, n * columns, dtype)
        # The products for the gradients are added up in fp32, from fp32 copies.
        if dtype != "fp32":
            with_tile = tape.new(n * columns, "fp32")
            with_other = tape.new(max(columns, n if of_head else 0) * width, "fp32")
            del with_tile, with_other


def _fold_forward(tape: Tape, count: int, dtype: str) -> None:
    """`_forward_tile`: the tile in fp32, scaled; then what each statistic makes of it."""
    as_fp32 = tape.new(count, "fp32") if dtype != "fp32" else None
    scaled = tape.new(count, "fp32")
    z = tape.new(count, "fp32")
    del scaled, as_fp32
    before_target, inverse = tape.new(count, "bool"), tape.new(count, "bool")
    filled = tape.new(count, "fp32")
    del filled, inverse
    shifted, e = tape.new(count, "fp32"), tape.new(count, "fp32")
    del shifted
    product = tape.new(count, "fp32")
    del product, e, z, before_target


def _fold_backward(tape: Tape, count: int, dtype: str) -> None:
    """`_backward_tile`: probabilities, and the gradient that takes the tile's place."""
    as_fp32 = tape.new(count, "fp32") if dtype != "fp32" else None
    y = tape.new(count, "fp32")
    del as_fp32
    z = tape.new(count, "fp32")
    log_p, p, grad = (tape.new(count, "fp32") for _ in range(3))
    is_target = tape.new(count, "bool")
    minuend, difference = tape.new(count, "fp32"), tape.new(count, "fp32")
    del minuend, difference
    scaled = tape.new(count, "fp32")
    del grad
    result = tape.new(count, "fp32")
    del y, z, log_p, p, is_target, scaled, result
