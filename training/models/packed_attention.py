"""Attention over packed rows on a CPU, computed document by document.

Transformers separates the documents of a packed row by a mask of [batch, 1, length, length]. SDPA
then computes the scores of every pair of tokens, including those of other documents and of future
tokens, and masks most of them. Here each document is attended to separately, causally and without a
mask. If a mask expresses more than "causal, within a document" (a sliding window, a padded prompt,
generation), it is built and used as `sdpa` does.

Forward and backward of this attention take half the time of masked attention in rows of 512 tokens
and a tenth in rows of 2,048 (documents of 32 to 256 tokens, two cores).

With static shapes (`training/config/static_shapes.py`) the boundaries of documents must not change
the shapes of a step. Every batch then has a mask of [batch, 1, length, length], also a batch whose
rows hold one document each, for which Transformers builds none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "sdpa_by_document"
MASKED_NAME = "sdpa_with_mask"
MIN_MEAN_LENGTH = 16
"""Mean tokens per document below which one masked call for all documents is faster."""


@dataclass(frozen=True)
class PackedDocuments:
    """Document boundaries of a batch, passed through the layers in place of a mask.

    Attributes:
        rows: For each row of the batch, the position after each document's last token.
    """

    rows: tuple[tuple[int, ...], ...]


def enable_packed_attention(model: PreTrainedModel) -> None:
    """Switch `model`, which was loaded with `sdpa`, to attention document by document."""
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, _mask)
    model.set_attn_implementation(NAME)


def enable_masked_attention(model: PreTrainedModel) -> None:
    """Switch `model`, which was loaded with `sdpa`, to attention with a mask in every batch."""
    AttentionInterface.register(MASKED_NAME, sdpa_attention_forward)
    AttentionMaskInterface.register(MASKED_NAME, _always_masked)
    model.set_attn_implementation(MASKED_NAME)


def _always_masked(
    batch_size: int, q_length: int, kv_length: int, **options: Any
) -> torch.Tensor | None:
    """Return the mask of `sdpa`, also if causal attention without a mask would be the same."""
    options = {**options, "allow_is_causal_skip": False}
    return sdpa_mask(batch_size, q_length, kv_length, **options)


def _mask(
    batch_size: int, q_length: int, kv_length: int, **options: Any
) -> PackedDocuments | torch.Tensor | None:
    """Return document boundaries if the mask only separates documents, else `sdpa_mask`.

    Transformers calls it once per forward pass to create the mask for all layers.
    """
    plain = (
        q_length == kv_length > 1
        and options["attention_mask"] is None
        and options.get("local_size") is None
        and not options["use_vmap"]
        and not options["allow_is_causal_skip"]
    )
    documents = None
    if plain:
        sees, device = options["mask_function"], options["device"]
        documents = _find_documents(batch_size, q_length, sees, device)
    return documents or sdpa_mask(batch_size, q_length, kv_length, **options)


def _find_documents(
    batch_size: int, length: int, sees: Callable[..., torch.Tensor], device: Any
) -> PackedDocuments | None:
    """Return the documents that a mask separates; None if it does anything else or they are short.

    The mask is known only as a function of index pairs. Evaluating it on all pairs would cost as
    much as building it, so three facts are checked with few pairs: which tokens attend to their
    predecessor (the boundaries), that no token attends to its successor (causal), and that the last
    token of each document attends to the first (no sliding window).

    Args:
        batch_size: Rows of the batch.
        length: Tokens per row.
        sees: Mask function of the row, the head, the query position and the key position.
        device: Device of the batch.
    """
    row = torch.arange(batch_size, device=device)[:, None]
    here = torch.arange(1, length, device=device)[None]
    continues = sees(row, 0, here, here - 1).expand(batch_size, -1)
    ends = [(*((~same).nonzero().flatten() + 1).tolist(), length) for same in continues.to("cpu")]
    if sum(map(len, ends)) * MIN_MEAN_LENGTH > batch_size * length:
        return None
    forward = sees(row, 0, here - 1, here)
    first = [[0, *row_ends[:-1]] for row_ends in ends]
    pairs = [
        (r, s, e - 1) for r in range(batch_size) for s, e in zip(first[r], ends[r], strict=True)
    ]
    at = torch.tensor(pairs, device=device).T
    if bool(forward.any()) or not bool(sees(at[0], 0, at[2], at[1]).all()):
        return None
    return PackedDocuments(tuple(ends))


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: PackedDocuments | torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention output, [batch, length, heads, head size].

    `query`, `key` and `value` have shape [batch, heads, length, head size].
    """
    if not isinstance(attention_mask, PackedDocuments) or more.get("position_bias") is not None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    rows = []
    for row, ends in enumerate(attention_mask.rows):
        sizes = [end - begin for begin, end in zip((0, *ends), ends, strict=False)]
        parts = (torch.split(part[row : row + 1], sizes, dim=2) for part in (query, key, value))
        outputs = [
            scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling)
            for q, k, v in zip(*parts, strict=True)
        ]
        rows.append(torch.cat(outputs, dim=2))
    return torch.cat(rows).transpose(1, 2).contiguous(), None
