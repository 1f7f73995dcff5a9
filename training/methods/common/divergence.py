"""Divergence between the next-token distributions of a student and a teacher, computed in tiles.

With logits divided by a temperature T (Hinton et al. 2015, arXiv:1503.02531), p the teacher's
probabilities and q the student's, per token and in nats:

    forward_kl   Σ p log(p/q)      mass-covering: the student covers all that the teacher may say
    reverse_kl   Σ q log(q/p)      mode-seeking (MiniLLM, Gu et al. 2023, arXiv:2306.08543)
    js           ½ Σ p log(p/m) + ½ Σ q log(q/m),  m = ½(p + q)

Each is multiplied by T², because the gradients of softened distributions scale with 1/T².

A teacher may be known by its K most likely tokens only. All others then count as one event: the
result is the divergence of two distributions over K + 1 events, which is never larger than the
divergence over the full vocabulary (data processing inequality).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from training.models.fused_log_probs import LOGITS

_MIN_LOG_PROB = -1e4
"""Log-probability of an impossible event; finite, because 0 · inf would be NaN."""


@dataclass(frozen=True)
class TopKTargets:
    """Next-token distributions of a teacher at the temperature of the comparison.

    Attributes:
        log_probs: Log-probabilities of all tokens, [tokens, vocabulary], or of the K most likely
            tokens and of all others together, [tokens, K + 1].
        ids: The K most likely tokens, [tokens, K]; None for the full vocabulary.
    """

    log_probs: torch.Tensor
    ids: torch.Tensor | None = None

    def __getitem__(self, tile: slice) -> TopKTargets:
        """Return the distributions of a range of tokens."""
        return TopKTargets(self.log_probs[tile], None if self.ids is None else self.ids[tile])

    def align(self, student: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log-probabilities of teacher and student over the same events.

        Args:
            student: Log-probabilities of the student's full vocabulary, [tokens, vocabulary].

        Returns:
            Teacher and student, [tokens, events] each.
        """
        teacher = self.log_probs.float()
        if self.ids is None:
            # Either vocabulary may be padded to a round size; padding entries are not tokens.
            width = min(teacher.shape[-1], student.shape[-1])
            return teacher[:, :width], student[:, :width]
        return teacher, top_k_and_rest(student, self.ids.long())


def keep_top_k(
    log_probs: torch.Tensor, top_k: int, vocabulary_size: int | None = None
) -> TopKTargets:
    """Return the K most likely tokens of each distribution, and the rest as one event.

    Args:
        log_probs: Log-probabilities, [tokens, vocabulary].
        top_k: K.
        vocabulary_size: Size of the student's vocabulary; entries of a teacher beyond it are
            padding.
    """
    log_probs = log_probs[:, :vocabulary_size]
    ids = log_probs.topk(min(top_k, log_probs.shape[-1])).indices
    return TopKTargets(top_k_and_rest(log_probs, ids), ids)


def top_k_and_rest(log_probs: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities of K tokens and of all others together, [tokens, K + 1]."""
    # A logsumexp over the others is accurate when their mass is tiny, where 1 - Σ would cancel.
    rest = log_probs.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([log_probs.gather(-1, ids), rest.clamp(min=_MIN_LOG_PROB)], dim=-1)


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Return Σ p log(p/q) per token, for log-probabilities, [tokens, events]."""
    return (p.exp() * (p - q)).sum(-1)


def _js(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    mixture = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0))
    return 0.5 * (_kl(p, mixture) + _kl(q, mixture))


DIVERGENCES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "forward_kl": _kl,
    "reverse_kl": lambda p, q: _kl(q, p),
    "js": _js,
}


@dataclass(frozen=True)
class DistillationLoss:
    """Weighted sum of the divergence from a teacher and the cross-entropy with the labels.

        soft_weight · T² · D(teacher, student) + (1 − soft_weight) · cross-entropy

    Attributes:
        kind: One of `DIVERGENCES`.
        temperature: T.
        soft_weight: Weight of the divergence.
    """

    kind: str
    temperature: float
    soft_weight: float

    def log_softmax(self, logits: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities at the temperature, in fp32."""
        return torch.log_softmax(logits.float() / self.temperature, dim=-1)

    def summed(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        teacher: TopKTargets,
        weights: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the divergence and the cross-entropy, each summed over tokens.

        Args:
            logits: Logits of the student, [tokens, vocabulary].
            labels: Next tokens, [tokens]; -100 for a token that is not counted.
            teacher: Distributions of the teacher for the same tokens.
            weights: 1 for a token that is counted and 0 for another, [tokens]; None counts all.
        """
        p, q = teacher.align(self.log_softmax(logits))
        per_token = DIVERGENCES[self.kind](p, q)
        counted = per_token if weights is None else per_token * weights
        soft = self.temperature**2 * counted.sum()
        hard = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
        return soft, hard


class TiledDivergence(torch.autograd.Function):
    """Distillation loss from hidden states that never holds the logits of all tokens.

    The loss is a sum over tokens, so its gradient is computed tile by tile during the forward pass
    and stored; the backward pass only scales it. Peak memory is that of one tile of logits plus a
    gradient of the size of the hidden states and of the head.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        losses: Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]],
        soft_weight: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the weighted sum, the divergence and the cross-entropy, summed over tokens.

        Args:
            ctx: Stores the gradients for `backward`.
            hidden: Final hidden states, [tokens, width].
            weight: Weight of the output head, [vocabulary, width].
            bias: Bias of the output head, [vocabulary], or None.
            losses: Returns divergence and cross-entropy of a tile of logits.
            soft_weight: Weight of the divergence in the sum.
        """
        needs_grad = [t is not None and t.requires_grad for t in (hidden, weight, bias)]
        gradients = [
            torch.zeros_like(t) if t is not None and needed else None
            for t, needed in zip((hidden, weight, bias), needs_grad, strict=True)
        ]
        sums = torch.zeros(3, device=hidden.device)
        size = max(1, LOGITS // len(weight))
        # All tiles share one leaf for each parameter: autocast caches the cast of a leaf until the
        # end of the model's call, so a leaf per tile would keep a cast of the head per tile.
        w, b = (
            None if t is None else t.detach().requires_grad_(needed)
            for t, needed in zip((weight, bias), needs_grad[1:], strict=True)
        )
        assert w is not None
        for start in range(0, len(hidden), size):
            tile = slice(start, start + size)
            h = hidden[tile].detach().requires_grad_(needs_grad[0])
            with torch.enable_grad():
                soft, hard = losses(torch.nn.functional.linear(h, w, b), tile)
                total = soft_weight * soft + (1 - soft_weight) * hard
            sums += torch.stack([total.detach(), soft.detach(), hard.detach()])
            leaves = [leaf for leaf in (h, w, b) if leaf is not None and leaf.requires_grad]
            tile_gradients = iter(torch.autograd.grad(total, leaves) if leaves else ())
            # The gradient of the hidden states has a slice per tile; those of the head add up.
            targets = (None if gradients[0] is None else gradients[0][tile], *gradients[1:])
            for target in targets:
                if target is not None:
                    target.add_(next(tile_gradients))
        ctx.save_for_backward(*gradients)
        total, soft, hard = sums.unbind()
        ctx.mark_non_differentiable(soft, hard)
        return total, soft, hard

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        """Return the stored gradients, scaled by the incoming one."""
        scaled = [None if grad is None else grad * outer[0] for grad in ctx.saved_tensors]
        return (*scaled, None, None)
