"""Decision of the gates of a suite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from catalog.exit_codes import RUN_FAILED
from evaluation.config.gates import MetricGate
from evaluation.results import GateResult, MetricResult, PairedResult, TaskResult
from training.errors import TemperError


class GateError(TemperError):
    """The evaluated model does not meet a gate; the results are complete in their folder."""

    exit_code = RUN_FAILED


def decide_gates(
    gates: Sequence[MetricGate], tasks: Mapping[str, TaskResult]
) -> tuple[GateResult, ...]:
    """Return the outcome of each gate.

    A gate whose metric has no value, such as that of a task without a scored item, is not passed.
    """
    return tuple(_decide(gate, tasks.get(gate.task)) for gate in gates)


def check_gates(results: Sequence[GateResult]) -> None:
    """Check that all gates are passed.

    Raises:
        GateError: Some are not; names each with its values.
    """
    failed = [result for result in results if not result.passed]
    if failed:
        lines = "".join(f"\n  {result.gate}: {result.reason}" for result in failed)
        count = f"{len(failed)} of {len(results)}"
        raise GateError(f"{count} gate{'s' if len(results) > 1 else ''} not passed{lines}")


def _decide(gate: MetricGate, task: TaskResult | None) -> GateResult:
    metric = None if task is None else task.metrics.get(gate.metric_name)
    if task is None or metric is None:
        present = ", ".join(sorted(task.metrics)) if task is not None else ""
        detail = f"; the task has {present}" if present else ""
        return GateResult(str(gate), False, f"there is no value of {gate.metric}{detail}")
    if gate.max_drop is not None:
        passed, reason = _decide_drop(gate.max_drop, metric, task.comparison.get(gate.metric_name))
    else:
        passed, reason = _decide_value(gate, metric)
    return GateResult(str(gate), passed, reason)


def _decide_value(gate: MetricGate, metric: MetricResult) -> tuple[bool, str]:
    name, limit = gate.limit
    value = f"the value is {metric.value:.4g} on {_items(metric.items)}"
    reason = f"{value} (95 % interval {metric.low:.4g} to {metric.high:.4g})"
    if name == "at_least":
        return metric.value >= limit, reason
    if name == "at_most":
        return metric.value <= limit, reason
    if metric.items < 2:
        return False, f"{value}: one item has no interval"
    return metric.low >= limit, reason


def _decide_drop(
    max_drop: float, metric: MetricResult, paired: PairedResult | None
) -> tuple[bool, str]:
    """Decide whether the interval excludes a loss that is larger than the limit."""
    if paired is None:
        return False, "there is no difference: no item was scored for both models"
    if metric.items < 2:
        return False, "one item has no interval"
    sign = 1 if metric.higher_is_better else -1
    worst = min(sign * paired.low, sign * paired.high)
    reason = (
        f"the difference is {paired.difference:+.4g} (95 % interval {paired.low:+.4g} to "
        f"{paired.high:+.4g}, p = {paired.p:.2g})"
    )
    if worst >= -max_drop:
        return True, reason
    room = sign * paired.difference + max_drop
    if room > 0:
        # The width of the interval falls with the square root of the number of items.
        needed = math.ceil(metric.items * ((sign * paired.difference - worst) / room) ** 2)
        reason += (
            f". The difference itself is within the limit, and {_items(metric.items)} are too few "
            f"to be sure: at this difference about {needed:,} would do"
        )
    return False, reason


def _items(count: int) -> str:
    return f"{count:,} item{'s' if count != 1 else ''}"
