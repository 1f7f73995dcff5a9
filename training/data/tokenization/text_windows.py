"""Windows of a long text: rows of at most `max_length` tokens, which may overlap.

Overlapping windows are those of a Transformers tokenizer with `return_overflowing_tokens`, whose
`stride` is the overlap, and of a sliding-window perplexity, whose `stride` is the step
(https://huggingface.co/docs/transformers/perplexity). The overlap is context: its tokens were
learned in the window before.
"""

from __future__ import annotations

import numpy as np

from training.data.tokenization.encoder import Tokens
from training.data.tokenization.token_rows import IGNORE, TokenRow


def window_rows(
    id_: str, head: Tokens, body: Tokens, max_length: int, overlap: int
) -> list[TokenRow]:
    """Return a text as rows of at most `max_length` tokens, in which each token is learned once.

    Without overlap, the first text token of a continuation row is not learned, because nothing
    precedes it.

    Args:
        id_: Id of the text.
        head: Begin-of-text token of each row, or nothing.
        body: Tokens of the text.
        max_length: Maximum tokens of a row.
        overlap: Tokens that a row repeats from the one before.
    """
    bounds = window_bounds(len(body), max_length - len(head), overlap)
    rows = []
    learned_to = 0
    for number, (start, stop) in enumerate(bounds, start=1):
        tokens = np.concatenate([head, body[start:stop]])
        labels = tokens.copy()
        context = len(head) + learned_to - start
        if context == len(head) and start:
            context += 1
        # The first token of a row is never predicted, so it has no label.
        labels[: max(1, context)] = IGNORE
        rows.append(TokenRow(id_ if len(bounds) == 1 else f"{id_}#{number}", tokens, labels))
        learned_to = stop
    return rows


def window_bounds(length: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Return the bounds of the windows of `length` tokens.

    Without overlap no window has a single token, because it would have nothing to learn.

    Args:
        length: Tokens of the text.
        size: Maximum tokens of a window.
        overlap: Tokens that a window repeats from the one before; fewer than `size`.
    """
    if not overlap:
        cuts = list(range(0, length, size))
        if len(cuts) > 1 and length - cuts[-1] == 1:
            cuts[-1] -= 1
        return list(zip(cuts, [*cuts[1:], length], strict=True))
    starts = range(0, max(1, length - overlap), size - overlap)
    return [(start, min(start + size, length)) for start in starts]
