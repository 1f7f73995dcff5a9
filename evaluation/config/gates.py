"""Section `gates:` of a suite: limits that an evaluation must meet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from training.config.base import ConfigSection
from validation.problem import Problem

_LIMITS = {
    "at_least": "at least",
    "at_most": "at most",
    "lower_bound_at_least": "lower bound at least",
    "max_drop": "drop at most",
}


class MetricGate(ConfigSection):
    """Limit of one metric; exactly one of the four limits is given."""

    metric: Annotated[str, Field(pattern=r"^[^.]+\.[^.]+$")]
    """Task and metric, such as `mmlu.accuracy`."""
    at_least: float | None = None
    """Smallest value."""
    at_most: float | None = None
    """Largest value."""
    lower_bound_at_least: float | None = None
    """Smallest lower bound of the value's 95 % interval."""
    max_drop: Annotated[float, Field(ge=0)] | None = None
    """Largest loss against the other model, in the unit of the metric. It is decided by the bound
    of the difference's 95 % interval, so that too few items fail it."""

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        given = [name for name in _LIMITS if getattr(self, name) is not None]
        if len(given) != 1:
            count = " and ".join(given) or "none"
            raise ValueError(f"a gate has exactly one of {', '.join(_LIMITS)} (got {count})")
        return self

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.metric.partition(".")[0]

    @property
    def metric_name(self) -> str:
        """Name of the metric in its task."""
        return self.metric.partition(".")[2]

    @property
    def limit(self) -> tuple[str, float]:
        """Key of the limit, and the limit."""
        name = next(name for name in _LIMITS if getattr(self, name) is not None)
        return name, float(getattr(self, name))

    def __str__(self) -> str:
        name, limit = self.limit
        return f"{self.metric} {_LIMITS[name]} {limit:g}"


def gate_problems(
    gates: Sequence[MetricGate], metrics: Mapping[str, Collection[str] | None], *, against: bool
) -> list[Problem]:
    """Return the gates that no evaluation of a suite could decide.

    Args:
        gates: Gates of the suite.
        metrics: Names of the metrics of each task; None if they are known only after scoring.
        against: True if another model is evaluated as well.
    """
    problems = []
    for index, gate in enumerate(gates):
        key = f"gates.{index}.metric"
        known = metrics.get(gate.task)
        if gate.task not in metrics:
            fix = f"Tasks of the suite: {', '.join(metrics)}"
            problems.append(Problem(key, "there is no such task", gate.metric, fix))
        elif known is not None and gate.metric_name not in known:
            fix = f"Metrics of {gate.task}: {', '.join(sorted(known))}"
            problems.append(Problem(key, "the task has no such metric", gate.metric, fix))
        if gate.max_drop is not None and not against:
            message = "a drop is measured against another model, and there is none"
            fix = "Name it with --against (AGAINST=…), or give at_least or at_most"
            problems.append(Problem(f"gates.{index}.max_drop", message, f"{gate.max_drop:g}", fix))
    return problems
