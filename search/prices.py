"""Price of a trial: the limit of its time, and the most that one start of it can cost."""

from __future__ import annotations

import math
from collections.abc import Iterator

from catalog.prices import price
from launch.prepared_job import PreparedJob
from launch.resources import stages_of
from launch.submit import apply_plan, plan_or_refuse
from search.config import SearchSettings
from search.trial_runner import PricedJob
from training.config import Job, Pipeline
from training.errors import JobError, Problem

STOP_S = 300.0
"""Machine time after the limit: SageMaker gives a job two minutes to save, then uploads its model.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StoppingCondition.html
"""
_LIMIT_OVER_PLAN = 2.0
_SHORTEST_LIMIT_S = 900.0


def price_job(
    job: Job | Pipeline, settings: SearchSettings, source: str, *, on_sagemaker: bool
) -> PricedJob:
    """Return a job with its plan and, if the search has a limit in dollars, a limit of its time.

    The limit is `resources.max_runtime`. If the job leaves it open, it is twice the time that the
    plan expects at most, so that a trial which is slower than planned is ended and not paid for.

    Args:
        job: Job of a trial.
        settings: Settings of the search.
        source: Name of the job file, for messages.
        on_sagemaker: SageMaker ends a job at the limit of its time. Elsewhere the search does.

    Raises:
        JobError: It does not fit the machine, or its price is unknown.
    """
    plan = plan_or_refuse(job, source)
    prepared = PreparedJob(apply_plan(job, plan), plan, source)
    if settings.max_cost is None:
        return PricedJob(prepared.job, prepared)
    hourly = hourly_usd(job, settings)
    if problems := [*_unpriced(job, hourly)]:
        raise JobError(source, problems)
    assert hourly is not None
    limit_s = max_runtime_s(job)
    if limit_s is None:
        limit_s = max(_SHORTEST_LIMIT_S, math.ceil(_LIMIT_OVER_PLAN * plan.hours.high * 3600))
    most = hourly * (limit_s + STOP_S) / 3600
    if on_sagemaker:
        prepared = PreparedJob(with_max_runtime(prepared.job, limit_s), plan, source)
    return PricedJob(prepared.job, prepared, limit_s, most)


def hourly_usd(job: Job | Pipeline, settings: SearchSettings) -> float | None:
    """Return the price of an hour of a trial's machines in US dollars; None if it is unknown."""
    if settings.usd_per_hour is not None:
        return settings.usd_per_hour
    prices = [_hourly(name, count) for name, count in _machines(job)]
    known = [usd for usd in prices if usd is not None]
    return max(known) if known and len(known) == len(prices) else None


def max_runtime_s(job: Job | Pipeline) -> float | None:
    """Return the limit of a job's run time; None if it has none."""
    limits = [run.resources.max_runtime for run in stages_of(job) if run.resources.max_runtime]
    return float(limits[0]) if limits else None


def with_max_runtime(job: Job | Pipeline, limit_s: float) -> Job | Pipeline:
    """Return a job with a limit of its run time, in every stage that names machines."""
    if isinstance(job, Pipeline):
        stages = [
            stage
            if index and not stage.resources.instance
            else stage.model_copy(update=_limited(stage, limit_s))
            for index, stage in enumerate(job.stages)
        ]
        return job.model_copy(update={"stages": tuple(stages)})
    return job.model_copy(update=_limited(job, limit_s))


def _limited(run: Job, limit_s: float) -> dict[str, object]:
    return {"resources": run.resources.model_copy(update={"max_runtime": limit_s})}


def _machines(job: Job | Pipeline) -> Iterator[tuple[str, int]]:
    for run in stages_of(job):
        if run.resources.instance:
            for name in (run.resources.instance, *run.resources.fallback):
                yield name, run.resources.count


def _hourly(name: str, count: int) -> float | None:
    known = price(name)
    return None if known is None else known.on_demand_usd * count


def _unpriced(job: Job | Pipeline, hourly: float | None) -> Iterator[Problem]:
    if hourly is None:
        names = sorted({name for name, _ in _machines(job)})
        machine = f"no price of {', '.join(names)} is known" if names else "it names no instance"
        yield Problem(
            "search.max_cost",
            f"needs the price of an hour of a trial, and {machine}",
            fix="Add search.usd_per_hour, or use search.max_time",
        )
    if any(run.resources.keep_alive for run in stages_of(job)):
        yield Problem(
            "resources.keep_alive",
            "keeps machines that are billed between trials, which search.max_cost cannot limit",
            fix="Leave it out",
        )
