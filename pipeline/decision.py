"""GateDecision of a gate on the results of an evaluation, as a pure function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.gates import decide_gates
from evaluation.results import EvaluationResult
from pipeline.config import GateStep


@dataclass(frozen=True)
class GateDecision:
    """GateDecision of a gate.

    Attributes:
        is_open: True if every condition is met.
        met: Conditions that are met, with their values.
        unmet: Conditions that are not.
    """

    is_open: bool
    met: tuple[str, ...]
    unmet: tuple[str, ...]


def decide(gate: GateStep, result: EvaluationResult) -> GateDecision:
    """Return whether a challenger passes a gate: its limits, what must be better, and the suite's.

    Args:
        gate: The gate.
        result: Results of the challenger.
    """
    met: list[str] = []
    unmet: list[str] = []
    conditions = [
        *((f"{one.gate}: {one.reason}", one.passed) for one in result.gates),
        *(
            (f"{one.gate}: {one.reason}", one.passed)
            for one in decide_gates(gate.limits, result.tasks)
        ),
        *_better(gate, result),
    ]
    for text, passed in conditions:
        (met if passed else unmet).append(text)
    return GateDecision(not unmet, tuple(met), tuple(unmet))


def _better(gate: GateStep, result: EvaluationResult) -> Iterator[tuple[str, bool]]:
    for metric in gate.better:
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
        significant = pair.p_holm < gate.level
        text = (
            f"{metric} {value.value:.4g}, difference {pair.difference:+.4g} "
            f"(95 % {pair.low:+.4g} to {pair.high:+.4g}), p {pair.p_holm:.2g}"
        )
        if is_better and significant:
            yield f"{text}: significantly better", True
        elif significant:
            yield f"{text}: significantly worse", False
        else:
            yield f"{text}: no difference is shown at the level {gate.level:g}", False
