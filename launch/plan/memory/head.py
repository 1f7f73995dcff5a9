"""The loss: log-probabilities of the next tokens, never with a whole batch of logits.

After `training/models/next_token.py`. On a GPU, TRL's kernel goes through the vocabulary tile by
tile (trl 1.16, `trl/kernels/chunked_logprob.py`); elsewhere the head runs on as many positions as
a budget of logits allows, and is computed again in the backward pass where there are more.
"""

from __future__ import annotations

from launch.plan.memory.ops import cast, linear, read
from launch.plan.memory.tape import Grads, Tape, Tensor, Weight

TILE_TOKENS = 4096
"""Tokens per tile (`TOKEN_CHUNK_SIZE`)."""
TILE_VOCABULARY = 32768
"""Pieces per tile (`_TILE`); the buffer is as wide even where the vocabulary is not."""
LOGITS = 2**24
"""Logits held at once where there are no tiles."""


def loss(tape: Tape, hidden: Tensor, head: Weight, rows: int, length: int, width: int) -> Tensor:
    """The log-probabilities of `hidden` [rows, length, width], every position supervised."""
    tokens = rows * (length - 1)
    wanted, ids = _wanted(tape, hidden, tokens, width), tape.new(tokens, "int64")
    with tape.meter.belongs_to("logits"):
        if tape.device == "cuda":
            return _in_tiles(tape, wanted, head, ids, width)
        return _in_chunks(tape, wanted, head, ids, width)


def _wanted(tape: Tape, hidden: Tensor, tokens: int, width: int) -> Tensor:
    """`hidden[:, :-1][mask]`; its gradient is written into zeros, once for each of the two."""
    tape.new(tokens, "bool")
    indices = tape.new(2 * tokens, "int64")
    whole = hidden.count

    def slice_back(g: Tensor) -> Grads:
        return (tape.new(whole, g.dtype),)

    def index_back(g: Tensor, kept: Tensor) -> Grads:
        return (tape.new(tokens * width, g.dtype),)

    sliced = Tensor(tokens * width, hidden.dtype, hidden.storage)
    sliced = tape.record(sliced, (hidden,), slice_back)
    return tape.record(tape.new(tokens * width, hidden.dtype), (sliced,), index_back, indices)


# --- in chunks --------------------------------------------------------------------------------


def _in_chunks(tape: Tape, hidden: Tensor, head: Weight, ids: Tensor, width: int) -> Tensor:
    tokens, vocabulary = hidden.count // width, head.count // width
    rows = max(1, LOGITS // vocabulary)
    if tokens <= rows:
        return _log_probs(tape, head, width, hidden)
    parts = []
    for start in range(0, tokens, rows):
        count = min(rows, tokens - start)
        parts.append(
            tape.checkpoint(_Scored(tape, head, width), _part(tape, hidden, count * width))
        )
    return _cat(tape, parts)


class _Scored:
    """The log-probabilities of a part, as a function of it."""

    def __init__(self, tape: Tape, head: Weight, width: int):
        self.tape, self.head, self.width = tape, head, width

    def __call__(self, x: Tensor) -> Tensor:
        return _log_probs(self.tape, self.head, self.width, x)


def _part(tape: Tape, x: Tensor, count: int) -> Tensor:
    """A view of some rows; `split` puts the gradients of all together in one tensor."""
    whole = x.count

    def back(g: Tensor) -> Grads:
        return (tape.new(whole, g.dtype),)

    return tape.record(Tensor(count, x.dtype, x.storage), (x,), back)


def _cat(tape: Tape, parts: list[Tensor]) -> Tensor:
    total = sum(part.count for part in parts)

    def back(g: Tensor) -> Grads:
        return tuple(Tensor(count, g.dtype, g.storage) for count in counts)

    counts = [part.count for part in parts]
    return tape.record(tape.new(total, "fp32"), tuple(parts), back)


def _log_probs(tape: Tape, head: Weight, width: int, hidden: Tensor) -> Tensor:
    """`-cross_entropy(head(hidden).float(), ids)`: keeps the log-softmax."""
    logits = cast(tape, linear(tape, hidden, head, width), "fp32")
    tokens, count = hidden.count // width, logits.count
    soft = tape.new(count, "fp32")

    def softmax_back(g: Tensor, kept: Tensor) -> Grads:
        return (tape.new(count, "fp32"),)

    def pick_back(g: Tensor, kept: Tensor) -> Grads:
        return (tape.new(count, "fp32"),)

    kept = Tensor(count, "fp32", soft.storage)
    soft = tape.record(soft, (logits,), softmax_back, kept)
    del logits
    return tape.record(tape.new(tokens, "fp32"), (soft,), pick_back, kept)


# --- in tiles ---------------------------------------------------------------------------------


def _in_tiles(tape: Tape, hidden: Tensor, head: Weight, ids: Tensor, width: int) -> Tensor:
    tokens, vocabulary = hidden.count // width, head.count // width
    dtype, before = tape.autocast or hidden.dtype, hidden.dtype
    wants_hidden, wants_head = hidden.node is not None, head.learns
    types = (dtype, before, head.dtype)

    def back(g: Tensor, *kept: Tensor) -> Grads:
        with tape.meter.belongs_to("logits"):
            whole = _whole(tape, head)
            of_hidden = tape.new(tokens * width, "fp32") if wants_hidden else None
            of_head = tape.new(head.count, "fp32") if wants_head else None
            _tile(tape, tokens, vocabulary, width, types)
            if of_hidden is not None and before != "fp32":
                of_hidden = tape.new(tokens * width, before)
            if of_head is not None and head.dtype != "fp32":
                of_head = tape.new(head.count, head.dtype)
            del whole
            return of_hidden, of_head

    whole = _whole(tape, head)
    statistics = [tape.new(tokens, "fp32") for _ in range(7)]
    _tile(tape, tokens, vocabulary, width, types)
    log_z, out = tape.new(tokens, "fp32"), tape.new(tokens, "fp32")
    del statistics, whole
    return tape.record(out, (hidden, read(head)), back, hidden, read(head), ids, log_z)


def _whole(tape: Tape, head: Weight) -> Tensor | None:
    return tape.gate.gathered(head) if tape.gate is not None and head.sharded else None


def _tile(
    tape: Tape, tokens: int, vocabulary: int, width: int, types: tuple[str, str, str]
) -> None:
    """What one tile needs; the kernel folds it where it lies."""
    dtype, of_hidden, of_weight = types
    n, columns = min(tokens, TILE_TOKENS), min(vocabulary, TILE_VOCABULARY)
    held = [tape.new(n * TILE_VOCABULARY, dtype)]
    if of_hidden != dtype:
        held.append(tape.new(n * width, dtype))
    if of_weight != dtype:
        held.append(tape.new(columns * width, dtype))
