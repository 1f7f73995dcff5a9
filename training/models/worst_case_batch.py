"""Loss of the longest rows that a job can have, to measure the memory of a micro-batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from training.config import Job

_MODEL_INPUTS = ("input_ids", "labels", "position_ids")


def worst_case_loss(
    job: Job, model: Any, collate: Any, device: torch.device, max_length: int, size: int
) -> torch.Tensor:
    """Return the loss of `size` rows whose sequences have `max_length` tokens.

    The forward pass saves for the backward pass what a training step saves: it runs in the job's
    precision, and with gradient checkpointing if the job uses it.

    Args:
        job: The run.
        model: Model with its adapter, not yet wrapped by an engine.
        collate: Collator of the job's rows.
        device: Device that the model is moved to.
        max_length: Tokens per sequence.
        size: Number of rows.
    """
    model.to(device).train()
    inputs = collate([collate.max_length_example(max_length)] * size)
    if "prompt_ids" in inputs:
        # Online RL trains on a prompt and its sampled answer as one sequence.
        ids = torch.tensor(inputs["prompt_ids"])
        inputs = {"input_ids": ids, "labels": ids}
    batch = {name: inputs[name].to(device) for name in _MODEL_INPUTS if name in inputs}
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(job.precision)
    with (
        _checkpointing(model, wanted=job.train.gradient_checkpointing),
        torch.autocast(device.type, dtype=dtype, enabled=dtype is not None),
    ):
        if job.method.head == "score":
            batch.pop("labels")
            scores: torch.Tensor = model(**batch, use_cache=False).logits
            return scores.sum()
        log_probs: torch.Tensor = model(**batch, next_token_log_probs=True).log_probs
        return -log_probs.mean()


@contextmanager
def _checkpointing(model: Any, *, wanted: bool) -> Iterator[None]:
    """Checkpoint the layers as the trainer will, which switches it on when training starts."""
    if wanted:
        model.activation_checkpointing_enable()
    try:
        yield
    finally:
        if wanted:
            model.activation_checkpointing_disable()
