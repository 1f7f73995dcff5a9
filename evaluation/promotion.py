"""Decision whether a model may replace the one that it was compared with, as a pure function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import Field

from evaluation.config.gates import MetricGate
from evaluation.gates import decide_gates
from evaluation.results import EvaluationResult
from training.config.base import ConfigSection


class PromotionConditions(ConfigSection):
    """Conditions that a challenger must meet."""

    limits: tuple[MetricGate, ...] = ()
    """Limits of single metrics."""
    better: tuple[str, ...] = ()
    """Metrics in which it must be significantly better than the other model."""
    level: float = Field(default=0.05, gt=0, lt=1)
    """Significance level of `better`, after Holm's correction over all metrics of the suite."""


@dataclass(frozen=True)
class PromotionDecision:
    """Decision on a challenger.

    Attributes:
        is_open: True if every condition is met.
        met: Conditions that are met, with their values.
        unmet: Conditions that are not.
    """

    is_open: bool
    met: tuple[str, ...]
    unmet: tuple[str, ...]


def decide_promotion(
    conditions: PromotionConditions, result: EvaluationResult
) -> PromotionDecision:
    """Return whether a challenger meets the conditions, and the gates of its suite.

    Args:
        conditions: The conditions.
        result: Results of the challenger.
    """
    met: list[str] = []
    unmet: list[str] = []
    decided = [
        *((f"{one.gate}: {one.reason}", one.passed) for one in result.gates),
        *(
            (f"{one.gate}: {one.reason}", one.passed)
            for one in decide_gates(conditions.limits, result.tasks)
        ),
        *_better(conditions, result),
    ]
    for text, passed in decided:
        (met if passed else unmet).append(text)
    return PromotionDecision(not unmet, tuple(met), tuple(unmet))


def _better(
    conditions: PromotionConditions, result: EvaluationResult
) -> Iterator[tuple[str, bool]]:
    for metric in conditions.better:
        name, _, score = metric.partition(".")
        task = result.tasks.get(name)
        value = task.metrics.get(score) if task else None
        if task is None or value is None:
            yield f"{metric} better: the evaluation has no such score", False
            continue
        if result.against is None:
            yield f"{metric} better: no version is in production to compare with", True
            continue
        pair = task.comparison.get(score)
        if pair is None:
            yield f"{metric} better: no item was scored for both models", False
            continue
        sign = 1 if value.higher_is_better else -1
        is_better = sign * pair.difference > 0
        significant = pair.p_holm < conditions.level
        text = (
            f"{metric} {value.value:.4g}, difference {pair.difference:+.4g} "
            f"(95 % {pair.low:+.4g} to {pair.high:+.4g}), p {pair.p_holm:.2g}"
        )
        if is_better and significant:
            yield f"{text}: significantly better", True
        elif significant:
            yield f"{text}: significantly worse", False
        else:
            yield f"{text}: no difference is shown at the level {conditions.level:g}", False
