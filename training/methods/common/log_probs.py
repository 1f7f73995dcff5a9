"""Mean log-probabilities of answers, and what methods without a reference share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import datasets
import torch


@dataclass(frozen=True)
class MeanLogProbs:
    """What a model makes of a batch of pairs.

    Attributes:
        chosen: Mean log-probability per token of each chosen answer, [B].
        rejected: Of each rejected answer, [B].
        nll: Summed over every token of the chosen sequences, their prompts included.
        nll_tokens: How many they are.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    nll: torch.Tensor
    nll_tokens: int


def mean_log_probs(model: Any, inputs: dict[str, Any]) -> MeanLogProbs:
    """Return the mean log-probabilities of both sides of a batch of pairs.

    Args:
        model: A causal language model, wrapped or not.
        inputs: As `PairCollator` makes them.
    """
    # Every real token but the first: the chosen prompts count in ORPO's likelihood.
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    found = model(input_ids=inputs["input_ids"], labels=labels, next_token_log_probs=True)
    logps = found.log_probs
    learned = inputs["completion_mask"][:, 1:]
    # An adapter may have put virtual tokens before the real ones.
    logps = logps[:, -learned.shape[1] :]
    mean = (logps * learned).sum(1) / learned.sum(1).clamp(min=1)
    chosen, rejected = mean.chunk(2)
    side, _ = logps.chunk(2)
    count = int((labels.chunk(2)[0][:, 1:] != -100).sum())
    return MeanLogProbs(chosen, rejected, -side.sum(), count)


def one_row(rows: datasets.Dataset) -> datasets.Dataset:
    """Return a single row: these trainers tokenize what they are given, and the loop reads none."""
    return rows.select(range(1))
