"""The loss of the longest rows a job can meet, to measure what a micro-batch costs."""

from __future__ import annotations

from typing import Any

import torch

from training.config.method_base import Head

_TAKEN = ("input_ids", "labels", "position_ids")


def worst_case_loss(
    model: Any, collate: Any, device: torch.device, max_length: int, head: Head, size: int
) -> torch.Tensor:
    """Return the loss of `size` rows of sequences of `max_length` tokens.

    Args:
        model: With its adapter, not yet wrapped by an engine.
        collate: Makes the batch.
        device: Where the model is moved first.
        max_length: Tokens per sequence.
        head: What the model puts out; a score has no labels to be compared with.
        size: Rows.
    """
    model.to(device).train()
    found = collate([collate.max_length_example(max_length)] * size)
    if "prompt_ids" in found:  # a prompt and its answer are one sequence when they are learned from
        ids = torch.tensor(found["prompt_ids"])
        found = {"input_ids": ids, "labels": ids}
    batch = {name: found[name].to(device) for name in _TAKEN if name in found}
    if head == "score":
        batch.pop("labels")
        scores: torch.Tensor = model(**batch, use_cache=False).logits
        return scores.sum()
    log_probs: torch.Tensor = model(**batch, next_token_log_probs=True).log_probs
    return -log_probs.mean()
