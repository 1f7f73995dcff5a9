"""Answers sampled from a model, the same however prompts are put into batches.

Each answer draws from a line of uniform numbers of its own, fixed by the seed, the rollout and its
place in it. Batches, processes and resumes therefore do not change what is sampled, beyond the
last bits of the logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList


@dataclass(frozen=True)
class Generation:
    """What the model said to a prompt.

    Attributes:
        ids: Its tokens, the one that ended it included.
        ended: Whether it ended by itself; False where it was cut at the longest length.
    """

    ids: list[int]
    ended: bool


def uniforms(seed: Sequence[int], places: Sequence[int], length: int) -> Tensor:
    """Return the numbers that decide each answer's tokens, [answers, length], in [0, 1).

    Args:
        seed: Of the run, the purpose, the rollout.
        places: Of the answers within the rollout.
        length: Tokens of the longest answer.
    """
    lines = [np.random.default_rng([*seed, place]).random(length) for place in places]
    return torch.from_numpy(np.stack(lines))


class Sampler(LogitsProcessor):
    """Chooses each token at the temperature, by inverting the distribution at a given number.

    Greedy decoding then takes what was chosen: everything else has probability 0.

    Args:
        chance: [answers, length], in [0, 1).
        temperature: Logits are divided by it; 0 takes the likeliest token.
        prompt_length: Tokens before the first one chosen, padding included.
    """

    def __init__(self, chance: Tensor, temperature: float, prompt_length: int):
        self.chance = chance
        self.temperature = temperature
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores that leave one token for each answer."""
        if not self.temperature:
            return scores
        heaped = torch.softmax(scores.double() / self.temperature, dim=-1).cumsum(dim=-1)
        at = input_ids.shape[1] - self.prompt_length
        # The sum is 1 but for rounding; a token of probability 0 adds nothing and is never hit.
        mark = self.chance[:, at : at + 1].to(heaped.device) * heaped[:, -1:]
        chosen = torch.searchsorted(heaped, mark, right=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0)


def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    chance: Tensor,
    *,
    temperature: float,
    end_ids: Sequence[int],
    pad_id: int,
    synced: bool = False,
) -> list[Generation]:
    """Return the model's answer to each prompt.

    Args:
        model: A language model, with its adapter if any; left in the mode it was in.
        prompts: Token ids.
        chance: Decides the tokens, [prompts, tokens of the longest answer].
        temperature: Logits are divided by it, and 0 takes the likeliest token; nothing else changes
            the distribution.
        end_ids: Tokens that end an answer.
        pad_id: Fills up the left of shorter prompts; may equal an end.
        synced: Whether every process must take part in every step (weights that stay sharded).
    """
    width = max(len(prompt) for prompt in prompts)
    rows = [[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    seen = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    was_training = model.training
    model.eval()
    with torch.no_grad(), _only_these_settings(model):
        output = model.generate(
            input_ids=torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(seen, device=model.device),
            logits_processor=LogitsProcessorList([Sampler(chance, temperature, width)]),
            max_new_tokens=chance.shape[1],
            do_sample=False,
            use_cache=True,
            pad_token_id=pad_id,
            eos_token_id=list(end_ids),
            synced_gpus=synced,
        )
    model.train(was_training)
    return [_cut(ids, set(end_ids)) for ids in output[:, width:].tolist()]


def _cut(ids: list[int], ends: set[int]) -> Generation:
    """Return an answer up to its first end; what stands behind it is padding."""
    length = next((at + 1 for at, token in enumerate(ids) if token in ends), len(ids))
    return Generation(ids[:length], ids[length - 1] in ends)


@contextmanager
def _only_these_settings(model: Any) -> Iterator[None]:
    """Set aside what a model brings along for serving, such as a penalty for repetition.

    It would change the distribution that log-probabilities are taken under.
    """
    holders = [model]
    if hasattr(model, "get_base_model"):
        holders.append(model.get_base_model())
    kept = [holder.generation_config for holder in holders]
    for holder in holders:
        holder.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for holder, settings in zip(holders, kept, strict=True):
            holder.generation_config = settings
