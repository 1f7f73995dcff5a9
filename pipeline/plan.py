"""Plan of a pipeline: each job is checked, and its trainings are priced, before anything runs."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import PrepareStep, TrainStep
from pipeline.job_overrides import override_words
from pipeline.load import LoadedPipeline
from planning import make_plan
from preparation.config.load import load_preparation
from registry.table import aligned
from training.config import load_job
from training.errors import JobError, Problem


def plan_lines(pipeline: LoadedPipeline, *, cloud: bool = False) -> list[str]:
    """Return a line for each step, after checking its job.

    A key that a step before fills keeps the value of the job file, which stands for it.

    Args:
        pipeline: The pipeline.
        cloud: Plan for AWS: with the keys that steps have there.

    Raises:
        JobError: Jobs have problems, or do not fit; the error lists all.
    """
    rows: list[tuple[str, ...]] = []
    problems: list[Problem] = []
    total = 0.0
    for name in pipeline.order:
        step = pipeline.steps[name]
        detail = ""
        try:
            if isinstance(step, PrepareStep):
                load_preparation(pipeline.file(step.job), " ".join(override_words(step.set)))
            if isinstance(step, TrainStep):
                detail, usd = _training(pipeline.file(step.job), step, cloud=cloud)
                total += usd
        except JobError as error:
            problems += [
                Problem(f"steps.{name}: {one.path}", one.message, one.value, one.fix)
                for one in error.problems
            ]
        uses = ", ".join(dict.fromkeys(other for other, _ in step.uses().values()))
        rows.append((name, step.kind, uses or "-", detail))
    if problems:
        raise JobError(str(pipeline.path), problems)
    limits = pipeline.spec.limits
    if limits.max_monthly_cost is not None and total > limits.max_monthly_cost:
        message = f"a run costs up to ${total:.2f}, more than a month may"
        limit = f"{limits.max_monthly_cost:g} USD"
        raise JobError(
            str(pipeline.path), [Problem("limits.max_monthly_cost", message, limit, "Raise it")]
        )
    lines = aligned([("step", "kind", "after", "plan"), *rows])
    return [*lines, f"a run costs up to ${total:.2f}" if total else "no instance is billed"]


def _training(path: Path, step: TrainStep, *, cloud: bool) -> tuple[str, float]:
    """Return what a training takes, as text, and its highest cost.

    Args:
        path: Its job file.
        step: The step.
        cloud: Plan for AWS.

    Raises:
        JobError: The job does not fit.
    """
    values = {**step.set, **(step.cloud if cloud else {})}
    plan = make_plan(load_job(path, " ".join(override_words(values))))
    if not plan.fits:
        raise JobError(str(path), [Problem("(job)", one) for one in plan.refused])
    hours = f"{plan.hours.low:.2g} to {plan.hours.high:.2g} h"
    usd = f", ${plan.cost_usd.low:.2f} to ${plan.cost_usd.high:.2f}" if plan.cost_usd.high else ""
    return hours + usd, plan.cost_usd.high
