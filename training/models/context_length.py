"""Check of the length of rows against the context of the model."""

from __future__ import annotations

import logging

from torch import nn
from transformers import PreTrainedModel

from training.config import Job
from training.errors import ModelError

logger = logging.getLogger(__name__)

_LEARNED_POSITIONS = ("wpe", "embed_positions", "position_embeddings")


def check_context_length(job: Job, model: PreTrainedModel) -> None:
    """Refuse rows without a position in the model; warn of rows longer than its context.

    Prompts are checked with their answers, once they are tokenized.

    Raises:
        ModelError: The model has a learned embedding per position, and rows may need more.
    """
    limit, length = context_length(model), job.data.max_length
    if limit is None or length <= limit or job.method.rows == "prompt":
        return
    learned = any(
        isinstance(module, nn.Embedding) and name.rpartition(".")[2] in _LEARNED_POSITIONS
        for name, module in model.named_modules()
    )
    if learned:
        raise ModelError(
            f"data.max_length is {length:,}, and the model {job.model.source} has learned "
            f"positions for {limit:,} tokens and none beyond. Lower data.max_length to {limit:,}"
        )
    logger.warning(
        "data.max_length is %s, and the context of the model %s is %s tokens "
        "(max_position_embeddings): longer rows are trained at positions that the model has never "
        "seen. Lower data.max_length to %s, unless the context is to be extended",
        f"{length:,}",
        job.model.source,
        f"{limit:,}",
        f"{limit:,}",
    )


def context_length(model: PreTrainedModel) -> int | None:
    """Return the tokens that a model reads, a scaling of rotary positions included."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or {}
    original, factor = rope.get("original_max_position_embeddings"), rope.get("factor")
    if limit is not None and original and factor:
        # YaRN's configurations state the original context, Llama 3's the scaled one.
        return max(int(limit), int(original * factor))
    return limit
