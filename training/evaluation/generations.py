"""Greedy answers of the model to the job's sample prompts."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from training.trainer.seed import preserve_rng_state


def generate_answers(
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
        model: The model; returned to the mode it was in.
        tokenizer: The model's tokenizer.
        prompts: Token ids, one list per prompt.
        max_new_tokens: Maximum number of tokens of an answer.
        end_ids: Token ids that end an answer.
        synced: True if every process must run every step, because weights are sharded (ZeRO 3,
            FSDP) and each forward pass gathers them.
    """
    was_training = model.training
    model.eval()
    answers = []
    reserved = max_new_tokens + _num_virtual_tokens(model)
    max_prompt = getattr(model.config, "max_position_embeddings", 1 << 30) - reserved
    with preserve_rng_state(), torch.no_grad():
        for ids in prompts:
            tokens = torch.tensor([ids[-max(max_prompt, 1) :]], device=model.device)
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


def _num_virtual_tokens(model: Any) -> int:
    """Return the number of positions that a soft prompt occupies."""
    config = getattr(model, "active_peft_config", None)
    return config.num_virtual_tokens if config is not None and config.is_prompt_learning else 0
