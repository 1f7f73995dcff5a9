"""Interface of the generation metrics, their lookup by name, and their mean over samples.

A metric is a file of this folder that defines `score(answer, reference)`. Its name joins
`GenerationMetricName` in `training.config.runtime`; nothing else knows of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol

from training.config.runtime import GenerationMetricName


class GenerationMetric(Protocol):
    """Function that compares a generated answer with a reference answer."""

    def __call__(self, answer: str, reference: str) -> float:
        """Return a score from 0 (worst) to 1 (best)."""


def load_metric(name: GenerationMetricName) -> GenerationMetric:
    """Return the metric of a name."""
    metric: GenerationMetric = importlib.import_module(f"{__package__}.{name}").score
    return metric


def mean_scores(
    names: Sequence[GenerationMetricName], answers: Sequence[str], references: Sequence[str | None]
) -> dict[str, float]:
    """Return the mean of each metric over the answers that have a reference.

    Args:
        names: Names of the metrics.
        answers: Generated answers.
        references: Reference answers in the same order; None if a sample has none.
    """
    pairs = [(a, r) for a, r in zip(answers, references, strict=True) if r is not None]
    if not pairs:
        return {}
    scores: dict[str, float] = {}
    for name in names:
        metric = load_metric(name)
        scores[name] = sum(metric(answer, reference) for answer, reference in pairs) / len(pairs)
    return scores
