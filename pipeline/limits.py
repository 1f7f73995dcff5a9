"""Limits of trainings: cool-down, number and cost in a calendar month."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.config import PipelineLimits
from pipeline.state import PipelineRun
from training.config.types import print_duration


@dataclass(frozen=True)
class LimitReached:
    """Reason why nothing is trained now.

    Attributes:
        outcome: `cooling down` or `over budget`.
        detail: Limit, values and when it ends.
    """

    outcome: str
    detail: str


def reached_limit(
    limits: PipelineLimits, history: Sequence[PipelineRun], usd: float, now: str
) -> LimitReached | None:
    """Return the limit that forbids a training now; None if it may start.

    Args:
        limits: Limits of the pipeline.
        history: Its runs, oldest first.
        usd: Predicted cost of the training.
        now: Time in UTC, ISO 8601.
    """
    trained = [run for run in history if run.trained]
    month = [run for run in trained if run.started[:7] == now[:7]]
    if limits.max_monthly_runs is not None and len(month) >= limits.max_monthly_runs:
        detail = f"{len(month)} trainings in {now[:7]}, and max_monthly_runs is"
        return LimitReached("over budget", f"{detail} {limits.max_monthly_runs}")
    spent = sum(run.cost_usd for run in month)
    if limits.max_monthly_cost is not None and spent + usd > limits.max_monthly_cost:
        detail = f"${spent:.2f} spent in {now[:7]} and ${usd:.2f} for this training are more than"
        return LimitReached(
            "over budget", f"{detail} max_monthly_cost ${limits.max_monthly_cost:.2f}"
        )
    # A run that failed may be repeated at once: it gave nothing that a cool-down could protect.
    complete = [run for run in trained if run.outcome not in ("failed", "stopped")]
    if complete:
        started = datetime.fromisoformat(complete[-1].started)
        age = (datetime.fromisoformat(now) - started).total_seconds()
        if age < limits.cooldown:
            cooldown, left = print_duration(limits.cooldown), limits.cooldown - age
            detail = f"the last training began {complete[-1].started}, and cooldown is {cooldown}"
            return LimitReached("cooling down", f"{detail}: {_rounded(left)} are left")
    return None


def _rounded(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(1, round(seconds / 60))} min"
