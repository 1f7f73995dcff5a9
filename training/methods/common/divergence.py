"""How far a student's next-token distribution is from a teacher's, tile by tile.

With logits divided by a temperature T (Hinton et al. 2015, arXiv:1503.02531), p the teacher's
probabilities and q the student's, per token and in nats:

    forward_kl   Σ p log(p/q)      covers all the teacher might say
    reverse_kl   Σ q log(q/p)      keeps to what the teacher finds likely (arXiv:2306.08543)
    js           ½ Σ p log(p/m) + ½ Σ q log(q/m),  m = ½(p + q)

Each is multiplied by T², so that its gradient does not shrink with T.

A teacher may be known by its K likeliest tokens only. All others then count as one: that is the
divergence of two distributions over K + 1 events, and never more than the true one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from training.models.fused_log_probs import LOGITS

_LEAST = -1e4
"""Log-probability of what cannot be; finite, so that 0 times it is 0."""


@dataclass(frozen=True)
class TopKTargets:
    """What is known of a teacher's next-token distributions at the temperature.

    Attributes:
        log_probs: Of all tokens, [tokens, vocabulary]; or of the likeliest and of all others
            together, [tokens, K + 1].
        ids: The likeliest tokens, [tokens, K]; None where all are known.
    """

    log_probs: torch.Tensor
    ids: torch.Tensor | None = None

    def __getitem__(self, tile: slice) -> TopKTargets:
        """Return some of the tokens."""
        return TopKTargets(self.log_probs[tile], None if self.ids is None else self.ids[tile])

    def beside(self, student: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the teacher's log-probabilities and the student's over the same events.

        Args:
            student: Log-probabilities of all its tokens, [tokens, vocabulary].
        """
        teacher = self.log_probs.float()
        if self.ids is None:
            # Rows a vocabulary was padded with are no tokens: neither model's text has them.
            width = min(teacher.shape[-1], student.shape[-1])
            return teacher[:, :width], student[:, :width]
        return teacher, with_rest(student, self.ids.long())


def likeliest(log_probs: torch.Tensor, number: int, words: int | None = None) -> TopKTargets:
    """Return what is left of distributions when only the likeliest tokens are kept.

    Args:
        log_probs: [tokens, vocabulary].
        number: How many are kept.
        words: Rows of the student's vocabulary; what a teacher's has beyond them is padding.
    """
    log_probs = log_probs[:, :words]
    ids = log_probs.topk(min(number, log_probs.shape[-1])).indices
    return TopKTargets(with_rest(log_probs, ids), ids)


def with_rest(log_probs: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities of some tokens and of all others together."""
    others = log_probs.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([log_probs.gather(-1, ids), others.clamp(min=_LEAST)], dim=-1)


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Return Σ p log(p/q) of log-probabilities."""
    return (p.exp() * (p - q)).sum()


def _js(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    middle = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0))
    return 0.5 * (_kl(p, middle) + _kl(q, middle))


DIVERGENCES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "forward_kl": _kl,
    "reverse_kl": lambda p, q: _kl(q, p),
    "js": _js,
}


@dataclass(frozen=True)
class DistillationLoss:
    """A weighted sum of divergence from a teacher and loss on the labels.

    Attributes:
        kind: One of `DIVERGENCES`.
        temperature: T.
        soft_weight: Share of the divergence; the rest is the label's.
    """

    kind: str
    temperature: float
    soft_weight: float

    def soften(self, logits: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities at the temperature."""
        return torch.log_softmax(logits.float() / self.temperature, dim=-1)

    def sums(
        self, logits: torch.Tensor, labels: torch.Tensor, teacher: TopKTargets
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return divergence and label loss, each summed over tokens.

        Args:
            logits: The student's, [tokens, vocabulary].
            labels: The tokens that came, [tokens].
            teacher: Its distributions.
        """
        p, q = teacher.beside(self.soften(logits))
        soft = self.temperature**2 * DIVERGENCES[self.kind](p, q)
        hard = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
        return soft, hard


class TiledDivergence(torch.autograd.Function):
    """The weighted sum for hidden states, without ever holding the logits of all tokens.

    The gradient is taken tile by tile on the way forward and kept; on the way back it is scaled.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        score: Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]],
        soft_weight: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the weighted sum, the divergence and the label loss, summed over tokens.

        Args:
            ctx: Keeps gradients.
            hidden: Final hidden states, [tokens, width].
            weight: Of the output head, [vocabulary, width].
            bias: Of the output head.
            score: Returns divergence and label loss of a tile of logits.
            soft_weight: Of the divergence in the sum.
        """
        learn = [t is not None and t.requires_grad for t in (hidden, weight, bias)]
        kept = [
            torch.zeros_like(t) if t is not None and wanted else None
            for t, wanted in zip((hidden, weight, bias), learn, strict=True)
        ]
        sums = torch.zeros(3, device=hidden.device)
        size = max(1, LOGITS // len(weight))
        # One leaf for all tiles: autocast keeps the cast of each leaf until the model's call ends.
        w, b = (
            None if t is None else t.detach().requires_grad_(wanted)
            for t, wanted in zip((weight, bias), learn[1:], strict=True)
        )
        assert w is not None
        for start in range(0, len(hidden), size):
            tile = slice(start, start + size)
            h = hidden[tile].detach().requires_grad_(learn[0])
            with torch.enable_grad():
                soft, hard = score(torch.nn.functional.linear(h, w, b), tile)
                total = soft_weight * soft + (1 - soft_weight) * hard
            sums += torch.stack([total.detach(), soft.detach(), hard.detach()])
            leaves = [part for part in (h, w, b) if part is not None and part.requires_grad]
            found = iter(torch.autograd.grad(total, leaves) if leaves else ())
            views = (None if kept[0] is None else kept[0][tile], *kept[1:])
            for view in views:
                if view is not None:
                    view.add_(next(found))
        ctx.save_for_backward(*kept)
        total, soft, hard = sums.unbind()
        ctx.mark_non_differentiable(soft, hard)
        return total, soft, hard

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        """Return the kept gradients, scaled."""
        scaled = [None if kept is None else kept * outer[0] for kept in ctx.saved_tensors]
        return (*scaled, None, None)
