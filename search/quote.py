"""Quote of a search: trials, time and dollars that it takes at most."""

from __future__ import annotations

import math
from dataclasses import dataclass

from launch.submit import plan_or_refuse
from launch.targets.base import Target
from planning import Plan
from search.budget import SearchBudget
from search.job_file import SearchJob
from search.prices import hourly_usd
from search.trial_runner import PricedJob, TrialRunner
from training.errors import JobError, Problem
from training.report.formatting import duration


@dataclass(frozen=True)
class SearchQuote:
    """Time and cost of a search by the plan of its job.

    Attributes:
        priced: The job as written, with its plan and price.
        lines: Lines for the user.
        question: Question to confirm before anything is paid for.
        kept_usd: Part of `max_cost` that is kept for the runs with other seeds.
    """

    priced: PricedJob
    lines: tuple[str, ...]
    question: str
    kept_usd: float = 0.0


def quote_search(search: SearchJob, runner: TrialRunner, ledger: SearchBudget) -> SearchQuote:
    """Return what a search takes if every trial runs to its end.

    Args:
        search: The search.
        runner: Place where its trials run.
        ledger: Costs of its earlier starts.

    Raises:
        JobError: The job as written does not fit the machine, or `max_cost` is less than a trial
            and the runs with other seeds can cost.
    """
    priced = runner.price(search.job)
    prepared = priced.prepared
    plan = prepared.plan if prepared else plan_or_refuse(search.job, str(search.path))
    lines = [time_line(search, plan)]
    kept = seeds_usd(search, priced)
    if priced.most_usd is None:
        return SearchQuote(priced, tuple(lines), _unlimited(search, plan))
    limit = search.settings.max_cost
    assert limit is not None
    require_enough(search, priced)
    lines.append(price_line(search, priced, kept))
    spent = f", {ledger.most_usd:.2f} USD of which are spent" if ledger.most_usd else ""
    question = f"Start trials of {search.job.name} for at most {limit:.2f} USD{spent}?"
    return SearchQuote(priced, tuple(lines), question, kept)


def time_line(search: SearchJob, plan: Plan) -> str:
    """Return how long a search takes if every trial runs to its end.

    Args:
        search: The search.
        plan: Plan of its job.
    """
    settings = search.settings
    others = 2 * settings.seeds
    in_turn = math.ceil((settings.num_runs - others) / settings.parallel) + others
    low, high = (duration(3600 * in_turn * hours) for hours in plan.hours)
    parallel = f", {settings.parallel} at a time" if settings.parallel > 1 else ""
    return (
        f"{settings.algorithm}, {settings.num_trials} trials{parallel} and "
        f"{others} runs with other seeds: {low} to {high} if none ends early"
    )


def cost_line(search: SearchJob, plan: Plan) -> str:
    """Return what all runs of a search cost by the plan; empty if nothing is charged.

    Args:
        search: The search.
        plan: Plan of its job.
    """
    if not plan.cost_usd.high:
        return ""
    runs = search.settings.num_runs
    low, high = (runs * usd for usd in plan.cost_usd)
    return f"{runs} runs cost {low:.2f} to {high:.2f} USD by the plan, if none ends early"


def seeds_usd(search: SearchJob, priced: PricedJob) -> float:
    """Return the most that the runs with other seeds can cost; 0 without a limit.

    Args:
        search: The search.
        priced: Its job as written.
    """
    return 2 * search.settings.seeds * (priced.most_usd or 0.0)


def price_line(search: SearchJob, priced: PricedJob, kept_usd: float) -> str:
    """Return what one trial can cost, and what is kept for the runs with other seeds.

    Args:
        search: The search.
        priced: Its job as written.
        kept_usd: Part of the limit that is kept.
    """
    assert priced.limit_s is not None and priced.most_usd is not None
    hourly = hourly_usd(search.job, search.settings)
    seeds = f"; {kept_usd:.2f} USD are kept for runs with other seeds" if kept_usd else ""
    return (
        f"a trial is ended after {duration(priced.limit_s)} and costs at most "
        f"{priced.most_usd:.2f} USD ({hourly:.2f} USD an hour){seeds}"
    )


def target_lines(priced: PricedJob, target: Target | None) -> tuple[str, ...]:
    """Return what the target says about a trial, after it has checked the job.

    Args:
        priced: The job as written.
        target: The target; None for this machine.

    Raises:
        TemperError: The job cannot run there; lists every problem.
    """
    if target is None or priced.prepared is None:
        return ()
    return tuple(f"each trial: {line}" for line in target.quote(priced.prepared).lines)


def require_enough(search: SearchJob, priced: PricedJob) -> None:
    """Raise if `max_cost` is less than one trial and the runs with other seeds can cost.

    Args:
        search: The search.
        priced: Its job as written.

    Raises:
        JobError: It is; the message says what one trial can cost.
    """
    limit, kept = search.settings.max_cost, seeds_usd(search, priced)
    if limit is not None and limit < (priced.most_usd or 0.0) + kept:
        raise JobError(str(search.path), [_too_little(search, priced, limit, kept)])


def _unlimited(search: SearchJob, plan: Plan) -> str:
    runs = search.settings.num_runs
    low, high = (runs * usd for usd in plan.cost_usd)
    cost = f"{low:.2f} to {high:.2f} USD by the plan" if high else "an unknown cost"
    return f"Start up to {runs} runs of {search.job.name} for {cost}, without a limit (max_cost)?"


def _too_little(search: SearchJob, priced: PricedJob, limit: float, kept: float) -> Problem:
    assert priced.most_usd is not None
    needed = math.ceil(100 * (priced.most_usd + kept)) / 100
    seeds = search.settings.seeds
    with_seeds = f", and {2 * seeds} runs with other seeds {kept:.2f} USD" if seeds else ""
    instead = ", or set search.seeds to 0" if seeds else ""
    return Problem(
        "search.max_cost",
        f"is less than the search needs: one trial can cost {priced.most_usd:.2f} USD{with_seeds}",
        f"{limit:.2f} USD",
        f"Set it to {needed:.2f} USD or more{instead}",
    )
