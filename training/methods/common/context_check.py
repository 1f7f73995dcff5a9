"""Whether prompts and their answers fit the model's context, seen before anything is sampled."""

from __future__ import annotations

from typing import Any

from training.errors import ModelError
from training.trainer.context import TrainerContext


def check_context(setup: TrainerContext, model: Any, new_tokens: int) -> None:
    """Raise where the longest prompt and answer do not fit the model's context together.

    Args:
        setup: Holds the prompts.
        model: Of which the context is.
        new_tokens: Of the longest answer.

    Raises:
        ModelError: Says how much there is.
    """
    room = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(setup.table.lengths)  # type: ignore[attr-defined]  # prompts are no stream
    if room is None or longest + new_tokens <= room:
        return
    ways = []
    if room > longest:
        ways.append(f"rollout.max_new_tokens to at most {room - longest}")
    if room > new_tokens:
        ways.append(
            f"data.max_length to at most {room - new_tokens}, which leaves longer prompts out"
        )
    raise ModelError(
        f"prompts of up to {longest} tokens and answers of up to {new_tokens} do not fit the "
        f"model's context of {room}. Lower {', or '.join(ways) or 'both far below it'}"
    )
