"""Model head that returns a distillation loss instead of logits.

The loss is computed inside the forward pass, for two reasons: an engine such as ZeRO 3 has the
head's weights gathered only there, and the logits, [tokens, vocabulary], never exist for all tokens
at once (`TiledDivergence`).
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers.utils import ModelOutput
from trl.trainer.utils import maybe_gather_lm_head_ctx

from training.methods.common.divergence import DistillationLoss, TiledDivergence, TopKTargets
from training.models.fused_log_probs import IGNORE, logit_cap, logit_scale


@dataclass
class DistillationOutput(ModelOutput):
    """Losses, each summed over the supervised tokens of a batch.

    Attributes:
        total: Weighted sum of the two, which is differentiable.
        soft: Divergence from the teacher.
        hard: Cross-entropy with the labels.
    """

    total: torch.Tensor | None = None
    soft: torch.Tensor | None = None
    hard: torch.Tensor | None = None


def add_distillation_head(
    model: Any, loss: DistillationLoss, *, all_positions: bool = False
) -> None:
    """Let `model(…, labels=…, soft_targets=TopKTargets(…))` return a `DistillationOutput`.

    Calls without `soft_targets`, such as generation, are unchanged.

    Args:
        model: Causal language model, with or without an adapter.
        loss: Compares student and teacher.
        all_positions: Whether every position goes through the head, so that its shapes do not
            depend on the labels; `soft_targets` then has every position too.
    """
    if isinstance(model, PeftModel):
        # Patch the wrapped model: PEFT's forward passes further arguments through to it.
        model = model.get_base_model()
    original_forward = model.forward
    transform = _logit_transform(model)

    @functools.wraps(type(model).forward)
    def forward(
        self: Any,
        *inputs: Any,
        soft_targets: TopKTargets | None = None,
        soft_weight: float = loss.soft_weight,
        **named: Any,
    ) -> Any:
        if soft_targets is None:
            return original_forward(*inputs, **named)
        # Position t predicts token t + 1.
        labels = named.pop("labels")[:, 1:]
        named["use_cache"] = False
        hidden = self.base_model(*inputs, **named).last_hidden_state[:, :-1]
        mask = (labels != IGNORE).flatten()
        states, targets = hidden.flatten(0, 1), labels.flatten()
        if not all_positions:
            # One search for the positions: on a GPU the host waits for its result.
            positions = mask.nonzero().squeeze(1)
            states, targets = states[positions], targets[positions]
        weights = mask.float() if all_positions else None

        def losses(logits: torch.Tensor, tile: slice) -> tuple[torch.Tensor, torch.Tensor]:
            counted = None if weights is None else weights[tile]
            return loss.summed(transform(logits), targets[tile], soft_targets[tile], counted)

        return _output(self.get_output_embeddings(), states, losses, soft_weight)

    model.forward = types.MethodType(forward, model)


def _output(
    head: nn.Module,
    hidden: torch.Tensor,
    losses: Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]],
    soft_weight: float,
) -> DistillationOutput:
    if type(head) is not nn.Linear:
        # An adapter wraps the head: its forward must run, so the weight cannot be tiled.
        soft, hard = losses(head(hidden), slice(None))
        return DistillationOutput(soft_weight * soft + (1 - soft_weight) * hard, soft, hard)
    # The head's own forward, which would gather its weight under ZeRO 3, is bypassed here.
    with maybe_gather_lm_head_ctx(head.weight, head.bias):
        total, soft, hard = TiledDivergence.apply(  # type: ignore[no-untyped-call]  # torch's
            hidden, head.weight, head.bias, losses, soft_weight
        )
    return DistillationOutput(total, soft, hard)


def _logit_transform(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the scaling and soft-capping that a model applies to the output of its head."""
    scale, cap = logit_scale(model), logit_cap(model)

    def transform(logits: torch.Tensor) -> torch.Tensor:
        logits = logits * scale if scale != 1.0 else logits
        return logits if cap is None else cap * torch.tanh(logits / cap)

    return transform
