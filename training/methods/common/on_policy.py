"""Batches of answers that the student generates itself (GKD, Agarwal et al., arXiv:2306.13649)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from training.models.fused_log_probs import IGNORE


def extract_prompts(batch: dict[str, Any]) -> list[torch.Tensor]:
    """Return the tokens before the first supervised one of each row; none for padding rows."""
    prompts = []
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        supervised = (labels != IGNORE).nonzero()
        prompts.append(ids[: int(supervised[0])] if len(supervised) else ids[:0])
    return prompts


def pad_left(prompts: Sequence[torch.Tensor], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, padded on the left for generation, [rows, longest prompt]."""
    longest = max(1, *(len(prompt) for prompt in prompts))
    ids = torch.full((len(prompts), longest), pad_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        if len(prompt):
            ids[row, -len(prompt) :] = prompt
            mask[row, -len(prompt) :] = 1
    # A row that attends to nothing would produce NaN: padding rows keep one token.
    mask[:, -1] = 1
    return ids, mask


def build_answer_batch(
    prompts: Sequence[torch.Tensor], answers: torch.Tensor, end_ids: Sequence[int], pad_id: int
) -> dict[str, Any]:
    """Return a batch of prompts with their answers, in which only the answers are supervised.

    Args:
        prompts: Token ids of each prompt, without padding.
        answers: Sampled tokens, [rows, tokens]; those after an end token are ignored.
        end_ids: Tokens that end an answer; the end token belongs to the answer.
        pad_id: Padding token.

    Returns:
        `input_ids`, `labels` and `position_ids`, [rows, sequence], padded on the right,
        `num_tokens`, and `sequence_lengths`, [rows].
    """
    is_end = torch.isin(answers, torch.tensor(list(end_ids), device=answers.device))
    ends_before = is_end.long().cumsum(1) - is_end.long()
    sizes = (ends_before == 0).sum(1)
    pairs = [
        (prompt, answer[:size])
        for prompt, answer, size in zip(prompts, answers.cpu(), sizes.tolist(), strict=True)
        if len(prompt)
    ]
    length = max(1, *(len(prompt) + len(answer) for prompt, answer in pairs)) if pairs else 1
    ids = torch.full((len(prompts), length), pad_id)
    labels = torch.full((len(prompts), length), IGNORE)
    lengths = torch.zeros(len(prompts), dtype=torch.long)
    for row, (prompt, answer) in enumerate(pairs):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.cat([prompt, answer])
        labels[row, len(prompt) : end] = answer
        lengths[row] = end
    positions = torch.arange(length).repeat(len(prompts), 1)
    return {
        "input_ids": ids,
        "labels": labels,
        "position_ids": positions,
        "num_tokens": int(lengths.sum()),
        "sequence_lengths": lengths,
    }
