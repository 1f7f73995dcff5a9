"""Check that prompts and their answers fit the model's context, before any is sampled."""

from __future__ import annotations

from typing import Any

from training.errors import ModelError
from training.trainer.context import TrainerContext


def check_context(setup: TrainerContext, model: Any, new_tokens: int) -> None:
    """Check that the longest prompt and the longest answer fit the context together.

    Args:
        setup: Context of the training run, which holds the prompts.
        model: Model with the context.
        new_tokens: Length limit of an answer.

    Raises:
        ModelError: They do not fit.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(setup.table.lengths)  # type: ignore[attr-defined]  # prompts are not streamed
    if limit is None or longest + new_tokens <= limit:
        return
    fixes = []
    if limit > longest:
        fixes.append(f"rollout.max_new_tokens to at most {limit - longest}")
    if limit > new_tokens:
        fixes.append(
            f"data.max_length to at most {limit - new_tokens}, which leaves longer prompts out"
        )
    raise ModelError(
        f"prompts of up to {longest} tokens and answers of up to {new_tokens} do not fit the "
        f"model's context of {limit}. Lower {', or '.join(fixes) or 'both far below it'}"
    )
