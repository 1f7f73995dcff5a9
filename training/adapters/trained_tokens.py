"""Rows of added tokens that are trained together with a LoRA, by PEFT's `trainable_token_indices`.

PEFT's alternative, the complete embeddings in `modules_to_save`, would train and store every row:
for a vocabulary of 128,000 at a width of 4,096 that is 2 GiB per matrix in the saved adapter, and
tokens that are not added would move too. A job may still ask for it by `modules_to_save`.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from training.config.adapters import Lora
from training.errors import ModelError


def trained_tokens(model: PreTrainedModel, adapter: Lora) -> dict[str, Any]:
    """Return PEFT's option that trains the rows of the added tokens; nothing without such.

    Tied embeddings share one set of rows, as in PEFT.

    Args:
        model: The base, with `added_token_ids`.
        adapter: The job's section.

    Raises:
        ModelError: The section adapts an embedding, or trains only one of tied embeddings in full.
    """
    ids: list[int] = getattr(model, "added_token_ids", [])
    if not ids:
        return {}
    names = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    ends = [names[id(end)] for end in _ends(model)]
    adapted = [end for end in ends if end in adapter.target_modules]
    if adapted:
        raise ModelError(
            f"adapter.target_modules: {', '.join(adapted)} holds the rows of model.add_tokens, "
            f"which are trained themselves. Leave it out, or name it in adapter.modules_to_save"
        )
    rest = [end for end in ends if end not in adapter.modules_to_save]
    tied = len(ends) == 2 and len({id(end.weight) for end in _ends(model)}) == 1
    if tied and len(rest) == 1:
        raise ModelError(
            f"adapter.modules_to_save: {' and '.join(ends)} are one matrix in this model, and the "
            f"rows of model.add_tokens would be trained in one copy only. Name both, or neither"
        )
    return {"trainable_token_indices": dict.fromkeys(rest, ids)} if rest else {}


def _ends(model: PreTrainedModel) -> list[Any]:
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return [end for end in ends if end is not None]
