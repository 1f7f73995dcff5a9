"""Loss of the longest rows that a job can have, to measure the memory of a micro-batch."""

from __future__ import annotations

from typing import Any

import torch

from training.config.method_base import Head

_MODEL_INPUTS = ("input_ids", "labels", "position_ids")


def worst_case_loss(
    model: Any, collate: Any, device: torch.device, max_length: int, head: Head, size: int
) -> torch.Tensor:
    """Return the loss of `size` rows whose sequences have `max_length` tokens.

    Args:
        model: Model with its adapter, not yet wrapped by an engine.
        collate: Collator of the job's rows.
        device: Device that the model is moved to.
        max_length: Tokens per sequence.
        head: Head of the model; a score head takes no labels.
        size: Number of rows.
    """
    model.to(device).train()
    inputs = collate([collate.max_length_example(max_length)] * size)
    if "prompt_ids" in inputs:
        # Online RL trains on a prompt and its sampled answer as one sequence.
        ids = torch.tensor(inputs["prompt_ids"])
        inputs = {"input_ids": ids, "labels": ids}
    batch = {name: inputs[name].to(device) for name in _MODEL_INPUTS if name in inputs}
    if head == "score":
        batch.pop("labels")
        scores: torch.Tensor = model(**batch, use_cache=False).logits
        return scores.sum()
    log_probs: torch.Tensor = model(**batch, next_token_log_probs=True).log_probs
    return -log_probs.mean()
