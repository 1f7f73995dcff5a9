"""A language model that, given soft targets, returns its distance from them instead of logits."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput
from trl.trainer.utils import maybe_gather_lm_head_ctx

from training.methods.common.divergence import DistillationLoss, TiledDivergence, TopKTargets
from training.models.fused_log_probs import IGNORE, logit_cap, logit_scale


@dataclass
class Distances(ModelOutput):
    """Sums over supervised tokens.

    Attributes:
        total: The weighted sum, which is learned from.
        soft: The divergence from the teacher.
        hard: The loss on the labels.
    """

    total: torch.Tensor | None = None
    soft: torch.Tensor | None = None
    hard: torch.Tensor | None = None


def add_soft_head(model: PreTrainedModel, loss: DistillationLoss) -> None:
    """Let `model(..., labels=…, soft_targets=Known)` return `Distances`.

    Without `soft_targets` it does what it did before, so that generation is unchanged. It is part
    of the forward pass because that is where an engine has the weights ready.

    Args:
        model: A causal language model, not an adapter's wrapper.
        loss: What is summed.
    """
    before = model.forward
    bend = _bending(model)

    @functools.wraps(type(model).forward)
    def forward(
        self: Any,
        *inputs: Any,
        soft_targets: TopKTargets | None = None,
        soft_weight: float = loss.soft_weight,
        **named: Any,
    ) -> Any:
        if soft_targets is None:
            return before(*inputs, **named)
        labels = named.pop("labels")[:, 1:]
        named["use_cache"] = False
        hidden = self.base_model(*inputs, **named).last_hidden_state[:, :-1]
        mask = labels != IGNORE
        chosen = labels[mask]

        def score(logits: torch.Tensor, tile: slice) -> tuple[torch.Tensor, torch.Tensor]:
            return loss.sums(bend(logits), chosen[tile], soft_targets[tile])

        return _distances(self.get_output_embeddings(), hidden[mask], score, soft_weight)

    model.forward = types.MethodType(forward, model)


def _distances(
    head: nn.Module,
    hidden: torch.Tensor,
    score: Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]],
    soft_weight: float,
) -> Distances:
    if type(head) is not nn.Linear:
        # An adapter is on it, and must not be passed by.
        soft, hard = score(head(hidden), slice(None))
        return Distances(soft_weight * soft + (1 - soft_weight) * hard, soft, hard)
    with maybe_gather_lm_head_ctx(head.weight, head.bias):
        total, soft, hard = TiledDivergence.apply(  # type: ignore[no-untyped-call]  # torch's
            hidden, head.weight, head.bias, score, soft_weight
        )
    return Distances(total, soft, hard)


def _bending(model: PreTrainedModel) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what a model does to its head's output."""
    scale, cap = logit_scale(model), logit_cap(model)

    def bend(logits: torch.Tensor) -> torch.Tensor:
        logits = logits * scale if scale != 1.0 else logits
        return logits if cap is None else cap * torch.tanh(logits / cap)

    return bend
