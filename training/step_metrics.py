"""Metrics of an optimizer step, and the declaration of how each one is logged.

`metrics.jsonl`, the console line with its CloudWatch patterns, the report's curves and MLflow all
read the declarations below. To add a metric, write a function from `MetricWindow` to its value and
append a `LoggedMetric` to `LOGGED_METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from training.expert_load import ExpertCounts, add_counts, expert_metrics


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of one optimizer step, summed over its micro-batches and all processes.

    Attributes:
        step: Optimizer steps done, this one included.
        epoch: Passes over the data so far.
        loss: Mean over the supervised tokens of the step.
        grad_norm: Norm of the full gradient before clipping; None if the engine has none.
        learning_rate: Learning rate of this step.
        tokens: Tokens consumed, padding excluded.
        supervised_tokens: Tokens that the loss is a mean over.
        row_ids: Readable ids of the rows consumed, in order.
        seconds: Wall time of the step.
        extra: Metrics that the method adds, such as rewards and margins.
        experts: Tokens per expert of each layer; empty without experts.
    """

    step: int
    epoch: float
    loss: float
    grad_norm: float | None
    learning_rate: float
    tokens: int
    supervised_tokens: int
    row_ids: tuple[str, ...]
    seconds: float
    extra: dict[str, float]
    experts: tuple[ExpertCounts, ...] = ()


@dataclass(frozen=True)
class MetricWindow:
    """Steps since the last logged step, and the facts about the run that metrics need.

    Attributes:
        steps: Metrics of each step; never empty.
        elapsed_s: Seconds since training started in this process.
        memory_gib: Memory of this process.
        flops_per_token: FLOPs of forward and backward for one token; 0 if unknown.
        peak_flops: Peak FLOPs per second of all devices together; 0 if unknown.
    """

    steps: list[StepMetrics]
    elapsed_s: float
    memory_gib: float
    flops_per_token: float = 0.0
    peak_flops: float = 0.0

    @property
    def last(self) -> StepMetrics:
        """The step that is logged."""
        return self.steps[-1]

    def sum(self, name: str) -> float:
        """Return the sum of an attribute of `StepMetrics` over the window."""
        return sum(getattr(step, name) for step in self.steps)

    @property
    def tokens_per_second(self) -> float:
        """Throughput over the window, all processes together."""
        return self.sum("tokens") / max(self.sum("seconds"), 1e-9)


@dataclass(frozen=True)
class LoggedMetric:
    """Declaration of one metric.

    Attributes:
        key: Key in `metrics.jsonl` and in MLflow.
        compute: Returns the value for the steps since the last logged step.
        line_label: Label in the console line; empty to leave the metric out of it.
        line_format: Format of the number in the console line.
        unit: Written directly after the number in the console line.
        bar: Text next to the progress bar, with a placeholder for the value; empty to leave it out.
        curve: Title of its curve in the report; empty for no curve.
        from_zero: True if the axis of the curve starts at zero.
        smooth: True if a long curve is drawn with a moving average.
    """

    key: str
    compute: Callable[[MetricWindow], Any]
    line_label: str = ""
    line_format: str = ""
    unit: str = ""
    bar: str = ""
    curve: str = ""
    from_zero: bool = False
    smooth: bool = True

    @property
    def pattern(self) -> str:
        """Regular expression that reads the value from a console line."""
        return rf"\| {self.line_label} (\S+){self.unit}"

    def line(self, value: float | None) -> str:
        """Return the part of a console line for a value; a dash if there is none."""
        number = "-" if value is None else format(value, self.line_format)
        return f"{self.line_label} {number}{self.unit}"


def model_flops_utilization(window: MetricWindow) -> float | None:
    """Return the share of the devices' peak that the model's FLOPs reach (arXiv:2204.02311)."""
    if not window.peak_flops:
        return None
    return round(window.tokens_per_second * window.flops_per_token / window.peak_flops, 4)


LOGGED_METRICS = (
    LoggedMetric("step", lambda window: window.last.step),
    LoggedMetric("epoch", lambda window: round(window.last.epoch, 4)),
    LoggedMetric(
        "loss",
        lambda window: window.sum("loss") / len(window.steps),
        line_label="loss",
        line_format=".4f",
        bar="loss {:.4f}",
    ),
    LoggedMetric(
        "learning_rate",
        lambda window: window.last.learning_rate,
        line_label="lr",
        line_format=".2e",
        curve="Learning rate",
        smooth=False,
    ),
    LoggedMetric(
        "grad_norm",
        lambda window: window.last.grad_norm,
        line_label="grad_norm",
        line_format=".3f",
        curve="Gradient norm before clipping",
    ),
    LoggedMetric("tokens", lambda window: window.sum("tokens")),
    LoggedMetric("supervised_tokens", lambda window: window.sum("supervised_tokens")),
    LoggedMetric(
        "tokens_per_second",
        lambda window: round(window.tokens_per_second, 1),
        line_label="tok/s",
        line_format=".0f",
        bar="{:,.0f} tok/s",
        curve="Tokens per second",
        from_zero=True,
    ),
    LoggedMetric(
        "mfu",
        model_flops_utilization,
        curve="Model FLOPs utilization (MFU)",
        from_zero=True,
    ),
    LoggedMetric(
        "memory_gib",
        lambda window: round(window.memory_gib, 3),
        line_label="mem",
        line_format=".2f",
        unit="GiB",
        bar="{:.2f} GiB",
        curve="Memory (GiB)",
        from_zero=True,
        smooth=False,
    ),
    LoggedMetric("seconds", lambda window: round(window.elapsed_s, 3)),
)
"""All metrics of a step, in the order of the keys in `metrics.jsonl` and of the console line."""


def step_row(window: MetricWindow) -> dict[str, Any]:
    """Return the row of `metrics.jsonl` for the last step of a window."""
    row = {metric.key: metric.compute(window) for metric in LOGGED_METRICS}
    experts = add_counts(step.experts for step in window.steps)
    return {**row, **window.last.extra, **expert_metrics(experts)}
