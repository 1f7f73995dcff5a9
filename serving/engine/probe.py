"""Comparison of an executor with plain forward passes of its model, when it is loaded.

Architectures differ in the masks, positions and caches that they accept. What an architecture
cannot do shows here, before the first request, and not in wrong answers.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from serving.engine.executor import Executor, SequencePart

_LENGTHS = (4, 10)
_STEPS = (
    ((0, 0, 2, 0), (1, 0, 5, 0)),
    ((0, 2, 3, 0), (1, 5, 9, 1)),
    ((0, 3, 4, 1), (1, 9, 10, 1)),
)
"""Slot, first token, token after the last, and tokens whose logits are kept, of each part.

They have all that a step can have: first and later parts of prompts, single tokens, and parts that
keep nothing.
"""


def batch_problem(model: Any, executor: Executor) -> str | None:
    """Return how an executor's logits differ from those of plain forward passes; None if not.

    Args:
        model: Causal language model.
        executor: Its executor, with free slots 0 and 1.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    rows = [
        [(7 * place + 13 * row + 5) % vocabulary for place in range(length)]
        for row, length in enumerate(_LENGTHS)
    ]
    kept = [rows[slot][:end] for step in _STEPS for slot, _, end, keep in step if keep]
    try:
        expected = torch.stack([_plain(model, row) for row in kept])
        found = torch.cat(
            [
                executor.forward(
                    [
                        SequencePart(slot, rows[slot][begin:end], begin, keep=keep)
                        for slot, begin, end, keep in step
                    ]
                )
                for step in _STEPS
            ]
        )
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    deviation = float((found - expected).abs().max())
    scale = float(expected.std())
    if not deviation <= _tolerance(model.dtype) * scale:
        return f"its logits in a batch differ by {deviation:.3g} (their deviation is {scale:.3g})"
    return None


def _plain(model: Any, ids: list[int]) -> Tensor:
    with torch.inference_mode(), _without_adapters(model):
        logits: Tensor = model(torch.tensor([ids], device=model.device), use_cache=False).logits
    return logits[0, -1].float()


def _without_adapters(model: Any) -> AbstractContextManager[None]:
    if not hasattr(model, "disable_adapter"):
        return nullcontext()
    disabled: AbstractContextManager[None] = model.disable_adapter()
    return disabled


def _tolerance(dtype: torch.dtype) -> float:
    """Return the largest deviation that rounding explains, as a share of the logits' spread."""
    return 1e-3 if dtype == torch.float32 else 0.2
