"""Tokens per expert of a mixture of experts: counts of a step, and what is logged of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple


class ExpertCounts(NamedTuple):
    """Tokens that the router of one layer sent to each of its experts.

    Attributes:
        layer: Name of the module that holds the experts.
        top_k: Experts per token.
        counts: Tokens of each expert, padding excluded.
    """

    layer: str
    top_k: int
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Tokens times the experts that each was sent to."""
        return sum(self.counts)

    @property
    def shares(self) -> list[float]:
        """Share of each expert; they add up to 1."""
        return [count / max(self.total, 1) for count in self.counts]

    @property
    def busiest_share(self) -> float:
        """Share of the `top_k` busiest experts; 1 if the router ignores all others."""
        return sum(sorted(self.shares)[-self.top_k :])

    @property
    def entropy(self) -> float:
        """Entropy of the shares, relative to that of equal shares: 1 if the load is even."""
        entropy = -sum(share * math.log(share) for share in self.shares if share)
        return entropy / math.log(len(self.counts)) if len(self.counts) > 1 else 1.0

    @property
    def dead(self) -> int:
        """Number of experts without a token."""
        return self.counts.count(0)


def add_counts(parts: Iterable[Iterable[ExpertCounts]]) -> tuple[ExpertCounts, ...]:
    """Return the counts of several processes or steps, added up by layer."""
    added: dict[str, ExpertCounts] = {}
    for part in parts:
        for one in part:
            if one.layer in added:
                both = zip(added[one.layer].counts, one.counts, strict=True)
                one = one._replace(counts=tuple(a + b for a, b in both))
            added[one.layer] = one
    return tuple(added.values())


def expert_metrics(layers: tuple[ExpertCounts, ...]) -> dict[str, Any]:
    """Return what `metrics.jsonl` has of the experts; nothing for a model without experts.

    The numbers are those of the layer with the most uneven load; `experts` has all layers, and
    `dead_experts` is a sum over them.
    """
    layers = tuple(layer for layer in layers if layer.total)
    if not layers:
        return {}
    return {
        "expert_max_share": round(max(max(layer.shares) for layer in layers), 6),
        "expert_min_share": round(min(min(layer.shares) for layer in layers), 6),
        "expert_busiest_share": round(max(layer.busiest_share for layer in layers), 6),
        "expert_entropy": round(min(layer.entropy for layer in layers), 6),
        "dead_experts": sum(layer.dead for layer in layers),
        "experts": [
            {
                "layer": layer.layer,
                "max_share": round(max(layer.shares), 6),
                "min_share": round(min(layer.shares), 6),
                "entropy": round(layer.entropy, 6),
                "dead": layer.dead,
            }
            for layer in layers
        ],
    }
