"""Make a teacher as sure as it is right: one number that its logits are divided by.

A teacher is often far surer of rows it was not trained on than it is right about them, and a
student would learn that too. Temperature scaling (Guo et al. 2017, arXiv:1706.04599) takes the
temperature at which the teacher's own loss on the labels is least; of a well calibrated teacher
that is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

TOKENS = 4096
"""Supervised tokens that are looked at."""
_STEPS = 8
"""Temperatures tried per factor of two."""
_FROM, _TO = -2, 3
"""Powers of two between which they lie."""

Batch = tuple[torch.Tensor, torch.Tensor]
"""Logits, [tokens, vocabulary], and the tokens that came, [tokens]."""


class TemperatureScaling(NamedTuple):
    """What was found.

    Attributes:
        temperature: What logits are divided by.
        loss: On the labels, then, in nats per token; NaN where there were none.
    """

    temperature: float
    loss: float


def calibration(batches: Iterable[Batch]) -> TemperatureScaling:
    """Return the temperature at which the loss on the labels is least.

    Args:
        batches: A teacher's logits and the labels; read until `TOKENS` were seen.
    """
    tried = [2 ** (step / _STEPS) for step in range(_FROM * _STEPS, _TO * _STEPS + 1)]
    losses = [0.0] * len(tried)
    seen = 0
    for logits, labels in batches:
        if not len(labels):
            continue
        for place, temperature in enumerate(tried):
            scaled = logits.float() / temperature
            losses[place] += float(
                torch.nn.functional.cross_entropy(scaled, labels, reduction="sum")
            )
        seen += len(labels)
        if seen >= TOKENS:
            break
    if not seen:
        return TemperatureScaling(1.0, math.nan)
    best = 2 ** ((_FROM * _STEPS + _lowest(losses)) / _STEPS)
    return TemperatureScaling(best, min(losses) / seen)


def _lowest(values: list[float]) -> float:
    """Return where a parabola through the least value and its neighbours is lowest."""
    best = min(range(len(values)), key=values.__getitem__)
    if best in (0, len(values) - 1):
        return float(best)
    left, middle, right = values[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return best + (0.5 * (left - right) / bend if bend > 0 and math.isfinite(bend) else 0.0)


def supervised(
    ask: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    batches: Iterable[dict[str, torch.Tensor]],
    ignore: int,
) -> Iterable[Batch]:
    """Yield logits and labels where something is learned.

    Args:
        ask: Returns a teacher's logits there, in the rows' order.
        batches: Of rows.
        ignore: Label of what is not learned.
    """
    for batch in batches:
        labels = batch["labels"][:, 1:]
        logits = ask(batch)
        yield logits, labels[labels != ignore].to(logits.device)
