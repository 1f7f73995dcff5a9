"""Generation whose samples do not depend on how prompts are batched.

Each answer has its own stream of uniform random numbers, determined by the seed, the rollout and
the answer's index in it. Batch sizes, numbers of processes and resumes therefore do not change the
samples, except through the last bits of the logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteriaList,
)


@dataclass(frozen=True)
class Generation:
    """Answer of a model to a prompt.

    Attributes:
        ids: Tokens of the answer, including the one that ended it.
        ended: Whether the model ended it; False if it was cut at the maximum length.
    """

    ids: list[int]
    ended: bool


def uniforms(seed: Sequence[int], places: Sequence[int], length: int) -> Tensor:
    """Return the random numbers that determine each answer's tokens, [answers, length], in [0, 1).

    Args:
        seed: Seed of the run, number of the purpose, number of the rollout.
        places: Indices of the answers within the rollout.
        length: Maximum tokens of an answer.
    """
    streams = [np.random.default_rng([*seed, place]).random(length) for place in places]
    return torch.from_numpy(np.stack(streams))


class Sampler(LogitsProcessor):
    """Logits processor that samples each token by inverse transform of given uniform numbers.

    It leaves one token with a finite score, which greedy decoding then selects.

    Args:
        draws: Uniform numbers, [answers, length], in [0, 1).
        temperature: Divisor of the logits; 0 selects the most likely token.
        prompt_length: Tokens before the first sampled one, including padding.
    """

    def __init__(self, draws: Tensor, temperature: float, prompt_length: int):
        self.draws = draws
        self.temperature = temperature
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores that leave one token per answer, [answers, vocabulary]."""
        if not self.temperature:
            return scores
        cumulative = torch.softmax(scores.double() / self.temperature, dim=-1).cumsum(dim=-1)
        at = input_ids.shape[1] - self.prompt_length
        # The last sum is 1 up to rounding, hence the scaling. Tokens of probability 0 add nothing
        # to the sums and are never selected.
        target = self.draws[:, at : at + 1].to(cumulative.device) * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, target, right=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0)


def sample(  # noqa: PLR0913 (settings of one call, all by name)
    model: Any,
    prompts: Sequence[Sequence[int]],
    draws: Tensor,
    *,
    temperature: float,
    end_ids: Sequence[int],
    pad_id: int,
    synced: bool = False,
    stopping: StoppingCriteriaList | None = None,
) -> list[Generation]:
    """Return the model's answer to each prompt.

    Args:
        model: Language model, with its adapter if any; its train or eval mode is restored.
        prompts: Token ids of each prompt.
        draws: Uniform numbers that determine the tokens, [prompts, maximum new tokens].
        temperature: Divisor of the logits; 0 selects the most likely token. Nothing else modifies
            the distribution.
        end_ids: Tokens that end an answer.
        pad_id: Id of padding on the left of shorter prompts; may equal an end token.
        synced: Whether every process must take part in every step, because weights are sharded.
        stopping: Further criteria that end an answer, after which it is padded.
    """
    width = max(len(prompt) for prompt in prompts)
    rows = [[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    attended = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    was_training = model.training
    model.eval()
    with torch.no_grad(), _default_generation_config(model):
        output = model.generate(
            input_ids=torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(attended, device=model.device),
            logits_processor=LogitsProcessorList([Sampler(draws, temperature, width)]),
            max_new_tokens=draws.shape[1],
            do_sample=False,
            use_cache=True,
            pad_token_id=pad_id,
            eos_token_id=list(end_ids),
            synced_gpus=synced,
            stopping_criteria=stopping,
        )
    model.train(was_training)
    return [_cut(ids, set(end_ids)) for ids in output[:, width:].tolist()]


def _cut(ids: list[int], ends: set[int]) -> Generation:
    """Return an answer up to its first end token; the rest is padding."""
    length = next((at + 1 for at, token in enumerate(ids) if token in ends), len(ids))
    return Generation(ids[:length], ids[length - 1] in ends)


@contextmanager
def _default_generation_config(model: Any) -> Iterator[None]:
    """Replace the model's generation config, which may have a repetition penalty and the like.

    Such settings would make the sampling distribution differ from the one in which
    log-probabilities are computed.
    """
    holders = [model]
    if hasattr(model, "get_base_model"):
        holders.append(model.get_base_model())
    saved = [holder.generation_config for holder in holders]
    for holder in holders:
        holder.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for holder, settings in zip(holders, saved, strict=True):
            holder.generation_config = settings
