"""The log-probability of every next token that counts, without a whole batch of logits.

`model(..., labels=labels, next_token_log_probs=True)` returns a `NextTokens`; `temperature=`
divides the logits first, `entropy=True` adds how undecided the model is. Only positions whose next
token is supervised go through the head. On a GPU, TRL's kernel takes their log-probabilities
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
class NextTokenLogProbs(ModelOutput):
    """What a model makes of the tokens that follow, each of shape [batch, length - 1]."""

    log_probs: torch.Tensor | None = None
    """In nats; 0 where nothing is supervised."""
    label_mask: torch.Tensor | None = None
    """Where something is."""
    entropy: torch.Tensor | None = None
    """Of the distribution each token comes from, in nats, without a gradient; where asked for."""


@dataclass(frozen=True)
class _LogitsSpec:
    """What is done to logits before they are read.

    Attributes:
        scale: They are multiplied by it.
        cap: They are bent towards it; None leaves them straight.
        temperature: They are divided by it, last.
        entropy: Whether their entropy is wanted too.
    """

    scale: float
    cap: float | None
    temperature: float
    entropy: bool


def add_next_token_log_probs(model: PreTrainedModel) -> None:
    """Let `model` be called with `next_token_log_probs=True`; all else stays as it was.

    Call it before an adapter or an engine wraps the model.
    """
    original = model.forward

    # `generate` checks its arguments against this signature.
    @functools.wraps(type(model).forward)
    def forward(
        self: PreTrainedModel,
        *args: Any,
        next_token_log_probs: bool = False,
        temperature: float = 1.0,
        entropy: bool = False,
        **inputs: Any,
    ) -> Any:
        if not next_token_log_probs:
            return original(*args, **inputs)
        labels = inputs.pop("labels")
        inputs["use_cache"] = False
        outputs = self.base_model(*args, **inputs)
        logits = _LogitsSpec(logit_scale(self), logit_cap(self), temperature, entropy)
        return _score(self, outputs.last_hidden_state[:, :-1], labels[:, 1:], logits)

    model.forward = types.MethodType(forward, model)


def _score(
    model: PreTrainedModel, hidden: torch.Tensor, targets: torch.Tensor, logits: _LogitsSpec
) -> NextTokenLogProbs:
    mask = targets != IGNORE
    head = model.get_output_embeddings()
    wanted, ids = hidden[mask], targets[mask]
    if hidden.device.type == "cuda" and type(head) is nn.Linear:
        found = _in_tiles(wanted, head, ids, logits)
    else:
        # Not of the head's weight: sharded, it has no shape.
        rows = max(1, LOGITS // model.config.get_text_config().vocab_size)
        found = _in_chunks(wanted, head, ids, logits, rows)
    # Scattered, a batch without one supervised token still leads back to the model.
    log_probs, entropy = (
        None if one is None else one.new_zeros(mask.shape).masked_scatter(mask, one)
        for one in found
    )
    return NextTokenLogProbs(log_probs, mask, entropy)


def _in_tiles(
    hidden: torch.Tensor, head: nn.Linear, ids: torch.Tensor, logits: _LogitsSpec
) -> tuple[torch.Tensor, torch.Tensor | None]:
    # Sharded by FSDP2, each is gathered once for all tiles.
    weight, bias = (
        part.full_tensor() if isinstance(part, DTensor) else part
        for part in (head.weight, head.bias)
    )
    outputs = ("log_probs", "entropy") if logits.entropy else ("log_probs",)
    with maybe_gather_lm_head_ctx(weight, bias):
        log_probs, entropy, *_ = ChunkedLogProbFunction.apply(
            *(hidden, weight, bias, ids, logits.temperature, _TILE),
            *(logits.cap, logits.scale, outputs),
        )
    return log_probs, entropy.detach() if logits.entropy else None


def _in_chunks(
    hidden: torch.Tensor, head: Any, ids: torch.Tensor, logits: _LogitsSpec, rows: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    score = functools.partial(_read, head=head, logits=logits)
    if len(ids) <= rows:
        return score(hidden, ids)
    parts = [
        checkpoint(score, some, those, use_reentrant=False, preserve_rng_state=False)
        for some, those in zip(torch.split(hidden, rows), torch.split(ids, rows), strict=True)
    ]
    log_probs, entropy = zip(*parts, strict=True)
    return torch.cat(log_probs), torch.cat(entropy) if logits.entropy else None


def _read(
    hidden: torch.Tensor, ids: torch.Tensor, *, head: nn.Module, logits: _LogitsSpec
) -> tuple[torch.Tensor, torch.Tensor | None]:
    found = head(hidden).float()
    if logits.scale != 1.0:
        found = found * logits.scale
    if logits.cap is not None:
        found = logits.cap * torch.tanh(found / logits.cap)
    if logits.temperature != 1.0:
        found = found / logits.temperature
    log_probs = -nn.functional.cross_entropy(found, ids, reduction="none")
    if not logits.entropy:
        return log_probs, None
    with torch.no_grad():
        all_of_them = torch.log_softmax(found, dim=-1)
        return log_probs, -(all_of_them.exp() * all_of_them).sum(dim=-1)


def logit_scale(model: PreTrainedModel) -> float:
    """Return what the model's own forward multiplies its logits by (Cohere, Granite)."""
    config = model.config.get_text_config()
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if (scale := getattr(config, name, None)) is not None:
            return float(scale)
    divisor = getattr(config, "logits_scaling", None)
    if divisor is None:
        return 1.0
    return float(divisor) if config.model_type == "hyperclovax" else 1.0 / float(divisor)


def logit_cap(model: PreTrainedModel) -> float | None:
    """Return where the model's own forward bends its logits (Gemma 2)."""
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return None if cap is None else float(cap)
