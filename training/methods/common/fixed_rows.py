"""Batches of a fixed number of sequences, for static shapes.

The collators of judged answers leave out the rows that only complete a batch, because their losses
are means over its rows. Here the model gets as many sequences as in a complete batch, and its
outputs are reduced to the real ones: the loss is computed from the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from training.models.fused_log_probs import IGNORE
from training.trainer.context import TrainerContext

# Values of the added sequences. They attend to themselves: attention to nothing is NaN.
_FILL = {"labels": IGNORE, "attention_mask": 1}


def with_fixed_rows(model: Any, setup: TrainerContext) -> Callable[..., Any]:
    """Return `model` as a function that completes its batch; `model` itself without static shapes.

    Args:
        model: Model, wrapped by its engine or not.
        setup: Context of the training run.
    """
    if setup.shapes is None:
        return model
    sequences = setup.micro_batch_size * getattr(setup.collate, "answers_per_row", 1)

    def forward(**inputs: Any) -> Any:
        real = len(inputs["input_ids"])
        if real >= sequences:
            return model(**inputs)
        filled = {name: _fill(name, value, sequences) for name, value in inputs.items()}
        outputs = model(**filled)
        for name, value in list(outputs.items()):
            if isinstance(value, torch.Tensor) and value.ndim and len(value) == sequences:
                outputs[name] = value[:real]
        return outputs

    return forward


def _fill(name: str, value: Any, sequences: int) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    extra = value.new_full((sequences - len(value), *value.shape[1:]), _FILL.get(name, 0))
    return torch.cat([value, extra])
