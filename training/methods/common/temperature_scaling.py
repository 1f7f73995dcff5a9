"""Temperature scaling of a teacher: one divisor of its logits that calibrates its confidence.

A teacher is often overconfident on rows that it was not trained on, and a student would learn that
too. Temperature scaling (Guo et al. 2017, arXiv:1706.04599) uses the temperature at which the
teacher's own cross-entropy with the labels is lowest; for a well calibrated teacher it is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

TOKENS = 4096
"""Supervised tokens that the temperature is fitted to."""
_STEPS_PER_OCTAVE = 8
"""Temperatures tried per factor of two."""
_MIN_EXPONENT, _MAX_EXPONENT = -2, 3
"""Powers of two that bound the temperatures tried."""

Batch = tuple[torch.Tensor, torch.Tensor]
"""Logits, [tokens, vocabulary], and labels, [tokens]."""


class TemperatureScaling(NamedTuple):
    """Fitted temperature of a teacher.

    Attributes:
        temperature: Divisor of the logits.
        loss: Cross-entropy with the labels at that temperature, in nats per token; NaN if there
            were no labels.
    """

    temperature: float
    loss: float


def fit_temperature(batches: Iterable[Batch]) -> TemperatureScaling:
    """Return the temperature at which the cross-entropy with the labels is lowest.

    The loss is evaluated on a logarithmic grid and interpolated by a parabola, which needs one pass
    over the batches; a gradient method would have to hold the logits of all of them.

    Args:
        batches: Logits of a teacher and the labels; read until `TOKENS` labels were seen.
    """
    grid = range(_MIN_EXPONENT * _STEPS_PER_OCTAVE, _MAX_EXPONENT * _STEPS_PER_OCTAVE + 1)
    temperatures = [2 ** (step / _STEPS_PER_OCTAVE) for step in grid]
    losses = [0.0] * len(temperatures)
    tokens = 0
    for logits, labels in batches:
        if not len(labels):
            continue
        for index, temperature in enumerate(temperatures):
            scaled = logits.float() / temperature
            losses[index] += float(
                torch.nn.functional.cross_entropy(scaled, labels, reduction="sum")
            )
        tokens += len(labels)
        if tokens >= TOKENS:
            break
    if not tokens:
        return TemperatureScaling(1.0, math.nan)
    exponent = (_MIN_EXPONENT * _STEPS_PER_OCTAVE + _parabola_minimum(losses)) / _STEPS_PER_OCTAVE
    return TemperatureScaling(2**exponent, min(losses) / tokens)


def _parabola_minimum(values: list[float]) -> float:
    """Return the position of the minimum of a parabola through the lowest value's neighbors."""
    best = min(range(len(values)), key=values.__getitem__)
    if best in (0, len(values) - 1):
        return float(best)
    left, middle, right = values[best - 1 : best + 2]
    curvature = left - 2 * middle + right
    if curvature <= 0 or not math.isfinite(curvature):
        return float(best)
    return best + 0.5 * (left - right) / curvature


def supervised_logits(
    logits_of: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    batches: Iterable[dict[str, torch.Tensor]],
    ignore: int,
) -> Iterable[Batch]:
    """Yield the logits and the labels of the supervised tokens.

    Args:
        logits_of: Returns a teacher's logits of the supervised tokens of a batch.
        batches: Batches with `labels`, [rows, sequence].
        ignore: Label of tokens that are not supervised.
    """
    for batch in batches:
        labels = batch["labels"][:, 1:]
        logits = logits_of(batch)
        yield logits, labels[labels != ignore].to(logits.device)
