"""Answers that the student writes itself, in place of those in the rows (GKD, arXiv:2306.13649)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from training.models.fused_log_probs import IGNORE


def prompts_of(batch: dict[str, Any]) -> list[torch.Tensor]:
    """Return what comes before the first learned token of each row; fillers have none."""
    found = []
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        learned = (labels != IGNORE).nonzero()
        found.append(ids[: int(learned[0])] if len(learned) else ids[:0])
    return found


def padded_left(prompts: Sequence[torch.Tensor], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, [rows, longest], padding first."""
    longest = max(1, *(len(prompt) for prompt in prompts))
    ids = torch.full((len(prompts), longest), pad_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        if len(prompt):
            ids[row, -len(prompt) :] = prompt
            mask[row, -len(prompt) :] = 1
    mask[:, -1] = 1
    return ids, mask


def rows_of(
    prompts: Sequence[torch.Tensor], answers: torch.Tensor, ends: Sequence[int], pad_id: int
) -> dict[str, Any]:
    """Return a batch of prompts with their answers, which alone are supervised.

    Args:
        prompts: Without padding.
        answers: Sampled tokens, [rows, tokens], anything behind an end.
        ends: Tokens that end an answer; the end itself is part of it.
        pad_id: Written behind rows.
    """
    ending = torch.isin(answers, torch.tensor(list(ends), device=answers.device))
    before = ending.long().cumsum(1) - ending.long()
    sizes = (before == 0).sum(1)
    full = [
        (prompt, answer[:size])
        for prompt, answer, size in zip(prompts, answers.cpu(), sizes.tolist(), strict=True)
        if len(prompt)
    ]
    length = max(1, *(len(prompt) + len(answer) for prompt, answer in full)) if full else 1
    ids = torch.full((len(prompts), length), pad_id)
    labels = torch.full((len(prompts), length), IGNORE)
    for row, (prompt, answer) in enumerate(full):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.cat([prompt, answer])
        labels[row, len(prompt) : end] = answer
    positions = torch.arange(length).repeat(len(prompts), 1)
    tokens = sum(len(prompt) + len(answer) for prompt, answer in full)
    return {"input_ids": ids, "labels": labels, "position_ids": positions, "num_tokens": tokens}
