"""A language model that, given soft targets, returns its distance from them instead of logits."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput
from trl.trainer.utils import maybe_gather_lm_head_ctx

from training.methods.divergence import Known, SoftAndHard, Tiled

IGNORE = -100


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


def add_soft_head(model: PreTrainedModel, loss: SoftAndHard) -> None:
    """Let `model(..., labels=…, soft_targets=Known)` return `Distances`.

    Without `soft_targets` it does what it did before, so that generation is unchanged. It is part
    of the forward pass because that is where an engine has the weights ready.

    Args:
        model: A causal language model, not an adapter's wrapper.
        loss: What is summed.
    """
    before = model.forward
    to_logits = logits_of(model)

    @functools.wraps(type(model).forward)
    def forward(
        self: Any,
        *inputs: Any,
        soft_targets: Known | None = None,
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
            return loss.sums(logits, chosen[tile], soft_targets[tile])

        head = self.get_output_embeddings()
        with maybe_gather_lm_head_ctx(head.weight, head.bias):
            total, soft, hard = Tiled.apply(  # type: ignore[no-untyped-call]  # torch's
                hidden[mask], head.weight, head.bias, to_logits, score, soft_weight
            )
        return Distances(total, soft, hard)

    model.forward = types.MethodType(forward, model)


def logits_of(model: PreTrainedModel) -> Callable[..., torch.Tensor]:
    """Return how a model's logits come from hidden states, its scaling and capping included."""
    config = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None) or 1.0
    if getattr(config, "logits_scaling", None):
        scale = 1 / config.logits_scaling

    def logits(
        hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        found = torch.nn.functional.linear(hidden, weight, bias) * scale
        return found if cap is None else cap * torch.tanh(found / cap)

    return logits
