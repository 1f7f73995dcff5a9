"""The loss of the longest rows a job can meet, to measure what a micro-batch costs."""

from __future__ import annotations

from typing import Any

import torch


def longest_rows_loss(
    model: Any, collate: Any, device: torch.device, max_length: int, size: int
) -> torch.Tensor:
    """Return the loss of `size` rows of `max_length` tokens, as training computes it.

    Args:
        model: With its adapter, not yet wrapped by an engine.
        collate: Makes the batch.
        device: Where the model is moved first.
        max_length: Tokens per row.
        size: Rows.
    """
    model.to(device).train()
    row = {
        "input_ids": [1] * max_length,
        "labels": [1] * max_length,
        "seq_lengths": [max_length],
        "ids": [],
    }
    batch = {name: t.to(device) for name, t in collate([row] * size).items()}
    loss: torch.Tensor = model(**batch, use_cache=False).loss
    return loss
