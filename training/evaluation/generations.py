"""Answers to the job's sample prompts, before and after training, for people to read."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from training.trainer.seed import preserve_rng_state


def answer(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    *,
    max_new_tokens: int,
    end_ids: list[int],
    synced: bool,
) -> list[str]:
    """Return the model's greedy answer to each prompt.

    Args:
        model: In any mode; left in it.
        tokenizer: Decodes.
        prompts: Token ids, one list per prompt.
        max_new_tokens: Longest answer.
        end_ids: Tokens that end one.
        synced: Whether every process must take part in every step (ZeRO 3, FSDP).
    """
    was_training = model.training
    model.eval()
    answers = []
    taken = max_new_tokens + _virtual_tokens(model)
    room = getattr(model.config, "max_position_embeddings", 1 << 30) - taken
    with preserve_rng_state(), torch.no_grad():
        for ids in prompts:
            tokens = torch.tensor([ids[-max(room, 1) :]], device=model.device)
            output = model.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                use_cache=True,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=end_ids,
                synced_gpus=synced,
            )
            answers.append(tokenizer.decode(output[0, tokens.shape[1] :], skip_special_tokens=True))
    model.train(was_training)
    return answers


def _virtual_tokens(model: Any) -> int:
    """Return how much of the context a soft prompt takes."""
    config = getattr(model, "active_peft_config", None)
    return config.num_virtual_tokens if config is not None and config.is_prompt_learning else 0
