"""The log-probability of every next token that counts, without a whole batch of logits.

`model(..., labels=labels, next_token_log_probs=True)` returns a `NextTokens`. Only positions whose
next token is supervised go through the head. On a GPU, TRL's kernel takes their log-probabilities
in tiles; elsewhere the head runs on as many positions at once as a budget of logits allows, and
what is over that is computed again in the backward pass rather than kept. The head is called as a
module, so that an adapter on it, or an engine that shards it, is not passed by.
"""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput
from trl.kernels import ChunkedLogProbFunction
from trl.trainer.utils import maybe_gather_lm_head_ctx

IGNORE = -100
LOGITS = 2**24
"""Logits held at once: 64 MiB in fp32, and as much again for their gradient."""
_TILE = 32768


@dataclass
class NextTokens(ModelOutput):
    """What a model makes of the tokens that follow, each of shape [batch, length - 1]."""

    log_probs: torch.Tensor | None = None
    """In nats; 0 where nothing is supervised."""
    label_mask: torch.Tensor | None = None
    """Where something is."""


def add_next_token_log_probs(model: PreTrainedModel) -> None:
    """Let `model` be called with `next_token_log_probs=True`; all else stays as it was.

    Call it before an adapter or an engine wraps the model.
    """
    original = model.forward

    # `generate` checks its arguments against this signature.
    @functools.wraps(type(model).forward)
    def forward(
        self: PreTrainedModel, *args: Any, next_token_log_probs: bool = False, **inputs: Any
    ) -> Any:
        if not next_token_log_probs:
            return original(*args, **inputs)
        labels = inputs.pop("labels")
        inputs["use_cache"] = False
        outputs = self.base_model(*args, **inputs)
        return _score(self, outputs.last_hidden_state[:, :-1], labels[:, 1:])

    model.forward = types.MethodType(forward, model)


def _score(model: PreTrainedModel, hidden: torch.Tensor, targets: torch.Tensor) -> NextTokens:
    mask = targets != IGNORE
    head = model.get_output_embeddings()
    wanted, ids = hidden[mask], targets[mask]
    scale, cap = _logit_scale(model), _logit_cap(model)
    if hidden.device.type == "cuda" and type(head) is nn.Linear:
        scored = _in_tiles(wanted, head, ids, scale, cap)
    else:
        # Not of the head's weight: sharded, it has no shape.
        rows = max(1, LOGITS // model.config.get_text_config().vocab_size)
        scored = _in_chunks(wanted, head, ids, scale, cap, rows)
    # Scattered, a batch without one supervised token still leads back to the model.
    return NextTokens(scored.new_zeros(mask.shape).masked_scatter(mask, scored), mask)


def _in_tiles(
    hidden: torch.Tensor, head: nn.Linear, ids: torch.Tensor, scale: float, cap: float | None
) -> torch.Tensor:
    # Sharded by FSDP2, each is gathered once for all tiles.
    weight, bias = (
        part.full_tensor() if isinstance(part, DTensor) else part
        for part in (head.weight, head.bias)
    )
    with maybe_gather_lm_head_ctx(weight, bias):
        scored: torch.Tensor = ChunkedLogProbFunction.apply(
            hidden, weight, bias, ids, 1.0, _TILE, cap, scale, ("log_probs",)
        )[0]
    return scored


def _in_chunks(
    hidden: torch.Tensor,
    head: nn.Module,
    ids: torch.Tensor,
    scale: float,
    cap: float | None,
    rows: int,
) -> torch.Tensor:
    score = functools.partial(_log_probs, head=head, scale=scale, cap=cap)
    if len(ids) <= rows:
        return score(hidden, ids)
    parts = [
        checkpoint(score, some, those, use_reentrant=False, preserve_rng_state=False)
        for some, those in zip(torch.split(hidden, rows), torch.split(ids, rows), strict=True)
    ]
    return torch.cat(parts)


def _log_probs(
    hidden: torch.Tensor, ids: torch.Tensor, *, head: nn.Module, scale: float, cap: float | None
) -> torch.Tensor:
    logits = head(hidden).float()
    if scale != 1.0:
        logits = logits * scale
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    return -nn.functional.cross_entropy(logits, ids, reduction="none")


def _logit_scale(model: PreTrainedModel) -> float:
    """Return what the model's own forward multiplies its logits by (Cohere, Granite)."""
    config = model.config.get_text_config()
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if (scale := getattr(config, name, None)) is not None:
            return float(scale)
    divisor = getattr(config, "logits_scaling", None)
    if divisor is None:
        return 1.0
    return float(divisor) if config.model_type == "hyperclovax" else 1.0 / float(divisor)


def _logit_cap(model: PreTrainedModel) -> float | None:
    """Return where the model's own forward bends its logits (Gemma 2)."""
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return None if cap is None else float(cap)
