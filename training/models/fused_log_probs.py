"""Fused log-probabilities of supervised next tokens, without logits for the complete batch.

The logits of a batch, [batch, length, vocabulary], are often the largest tensor of a training step.
`model(..., labels=labels, next_token_log_probs=True)` returns `NextTokenLogProbs` instead;
`temperature=` divides the logits first, `entropy=True` adds the entropy of the distribution, and
`top1=True` whether each token is the most probable one.
Only positions whose next token is supervised go through the language-model head. On a GPU, TRL's
kernel computes their log-probabilities in tiles of the vocabulary. Elsewhere the head runs on
chunks of positions, whose logits are recomputed in the backward pass rather than stored. In that
case the head is called as a module, so that an adapter on it and an engine that shards it work.
With static shapes (`training/config/static_shapes.py`) all positions go through the head, in chunks
of one size, and the results of the unsupervised ones are masked.
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
"""Logits in memory at once: 64 MiB in fp32, and as much again for their gradient."""
_TILE = 32768


@dataclass
class NextTokenLogProbs(ModelOutput):
    """Log-probabilities of next tokens; all tensors have shape [batch, length - 1]."""

    log_probs: torch.Tensor | None = None
    """Log-probability of each next token in nats; 0 at unsupervised positions."""
    label_mask: torch.Tensor | None = None
    """True at supervised positions."""
    entropy: torch.Tensor | None = None
    """Entropy of the distribution of each token in nats, without gradient; None by default."""
    top1: torch.Tensor | None = None
    """True at supervised positions whose next token is the most probable one; None by default."""


@dataclass(frozen=True)
class _LogitsSpec:
    """Transformations of the logits before the softmax.

    Attributes:
        scale: Factor of the logits.
        cap: Soft cap, `cap * tanh(logits / cap)`; None for no cap.
        temperature: Divisor, applied last.
        entropy: Whether to compute the entropy.
        top1: Whether to compare each token with the most probable one.
    """

    scale: float
    cap: float | None
    temperature: float
    entropy: bool
    top1: bool


Scored = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]
"""Log-probabilities, entropy and top-1 hits of tokens, each [tokens]; None if not requested."""


def add_next_token_log_probs(model: PreTrainedModel, *, all_positions: bool = False) -> None:
    """Add the option `next_token_log_probs` to the model's forward.

    Call it before an adapter or an engine wraps the model.

    Args:
        model: Causal language model.
        all_positions: Whether every position goes through the head, so that its shapes do not
            depend on the labels.
    """
    score = _score_all if all_positions else _score
    original = model.forward

    # `generate` validates its arguments against this signature.
    @functools.wraps(type(model).forward)
    def forward(
        self: PreTrainedModel,
        *args: Any,
        next_token_log_probs: bool = False,
        temperature: float = 1.0,
        entropy: bool = False,
        top1: bool = False,
        **inputs: Any,
    ) -> Any:
        if not next_token_log_probs:
            return original(*args, **inputs)
        labels = inputs.pop("labels")
        inputs["use_cache"] = False
        outputs = self.base_model(*args, **inputs)
        logits = _LogitsSpec(logit_scale(self), logit_cap(self), temperature, entropy, top1)
        return score(self, outputs.last_hidden_state[:, :-1], labels[:, 1:], logits)

    model.forward = types.MethodType(forward, model)


def _score(
    model: PreTrainedModel, hidden: torch.Tensor, targets: torch.Tensor, logits: _LogitsSpec
) -> NextTokenLogProbs:
    mask = targets != IGNORE
    head = model.get_output_embeddings()
    # One search for the positions: on a GPU the host waits for its result.
    positions = mask.flatten().nonzero().squeeze(1)
    wanted, ids = hidden.flatten(0, 1)[positions], targets.flatten()[positions]
    if hidden.device.type == "cuda" and type(head) is nn.Linear:
        scored = _in_tiles(wanted, head, ids, logits)
    else:
        scored = _in_chunks(wanted, head, ids, logits, _rows_at_once(model))
    # `masked_scatter` keeps the result connected to the graph even if no token is supervised: the
    # backward pass, and the collectives that ZeRO and DDP run in it, must happen on every process.
    log_probs, entropy, top1 = (
        None if one is None else one.new_zeros(mask.shape).masked_scatter(mask, one)
        for one in scored
    )
    return NextTokenLogProbs(log_probs, mask, entropy, top1)


def _score_all(
    model: PreTrainedModel, hidden: torch.Tensor, targets: torch.Tensor, logits: _LogitsSpec
) -> NextTokenLogProbs:
    """Return the same as `_score`, by operations whose shapes do not depend on the labels."""
    mask = targets != IGNORE
    head = model.get_output_embeddings()
    states, ids = hidden.flatten(0, 1), targets.clamp(min=0).flatten()
    if hidden.device.type == "cuda" and type(head) is nn.Linear:
        scored = _in_tiles(states, head, ids, logits)
    else:
        # Filled up to complete chunks: the head has one shape.
        tokens = len(ids)
        rows = min(tokens, _rows_at_once(model))
        extra = -tokens % rows
        states = nn.functional.pad(states, (0, 0, 0, extra))
        padded = _in_chunks(states, head, nn.functional.pad(ids, (0, extra)), logits, rows)
        scored = _first(padded, tokens)
    log_probs, entropy, top1 = (
        None if one is None else one.view(mask.shape).masked_fill(~mask, 0) for one in scored
    )
    return NextTokenLogProbs(log_probs, mask, entropy, top1)


def _first(scored: Scored, tokens: int) -> Scored:
    log_probs, entropy, top1 = scored
    return (
        log_probs[:tokens],
        None if entropy is None else entropy[:tokens],
        None if top1 is None else top1[:tokens],
    )


def _rows_at_once(model: PreTrainedModel) -> int:
    # The config, because a head that ZeRO 3 has sharded has no shape to read it from.
    return max(1, LOGITS // model.config.get_text_config().vocab_size)


def _in_tiles(
    hidden: torch.Tensor, head: nn.Linear, ids: torch.Tensor, logits: _LogitsSpec
) -> Scored:
    """Return the scores of `ids`, [tokens], by TRL's kernel."""
    # FSDP2 shards weight and bias: gather each once, for all tiles.
    weight, bias = (
        part.full_tensor() if isinstance(part, DTensor) else part
        for part in (head.weight, head.bias)
    )
    wanted = {"log_probs": True, "entropy": logits.entropy, "is_top1": logits.top1}
    outputs = tuple(name for name, value in wanted.items() if value)
    with maybe_gather_lm_head_ctx(weight, bias):
        log_probs, entropy, _, _, top1 = ChunkedLogProbFunction.apply(
            *(hidden, weight, bias, ids, logits.temperature, _TILE),
            *(logits.cap, logits.scale, outputs),
        )
    return log_probs, entropy.detach() if logits.entropy else None, top1 if logits.top1 else None


def _in_chunks(
    hidden: torch.Tensor, head: Any, ids: torch.Tensor, logits: _LogitsSpec, rows: int
) -> Scored:
    """Return the scores of `ids`, [tokens], `rows` tokens at a time."""
    score = functools.partial(_score_chunk, head=head, logits=logits)
    if len(ids) <= rows:
        return score(hidden, ids)
    parts = [
        checkpoint(score, some, those, use_reentrant=False, preserve_rng_state=False)
        for some, those in zip(torch.split(hidden, rows), torch.split(ids, rows), strict=True)
    ]
    log_probs, entropy, top1 = zip(*parts, strict=True)
    return (
        torch.cat(log_probs),
        torch.cat(entropy) if logits.entropy else None,
        torch.cat(top1) if logits.top1 else None,
    )


def _score_chunk(
    hidden: torch.Tensor, ids: torch.Tensor, *, head: nn.Module, logits: _LogitsSpec
) -> Scored:
    scores = head(hidden).float()
    if logits.scale != 1.0:
        scores = scores * logits.scale
    if logits.cap is not None:
        scores = logits.cap * torch.tanh(scores / logits.cap)
    if logits.temperature != 1.0:
        scores = scores / logits.temperature
    log_probs = -nn.functional.cross_entropy(scores, ids, reduction="none")
    entropy = top1 = None
    with torch.no_grad():
        if logits.entropy:
            distribution = torch.log_softmax(scores, dim=-1)
            entropy = -(distribution.exp() * distribution).sum(dim=-1)
        if logits.top1:
            top1 = scores.argmax(dim=-1) == ids
    return log_probs, entropy, top1


def logit_scale(model: PreTrainedModel) -> float:
    """Return the factor by which the model's own forward scales its logits (Cohere, Granite)."""
    config = model.config.get_text_config()
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if (scale := getattr(config, name, None)) is not None:
            return float(scale)
    divisor = getattr(config, "logits_scaling", None)
    if divisor is None:
        return 1.0
    return float(divisor) if config.model_type == "hyperclovax" else 1.0 / float(divisor)


def logit_cap(model: PreTrainedModel) -> float | None:
    """Return the soft cap that the model's own forward applies to its logits (Gemma 2)."""
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return None if cap is None else float(cap)
