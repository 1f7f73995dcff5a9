"""Plan of a search: that of one trial, and what all of them take."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from planning import make_plan
from planning.command import show_plan
from search.job_file import load_search_job
from search.prices import price_job
from search.quote import cost_line, price_line, require_enough, seeds_usd, time_line
from training.config.input_paths import require_inputs


def print_search_plan(path: Path, overrides: str = "", out: Path | None = None) -> int:
    """Print the plan of a job with `search:`, and return the exit code: 2 if it does not fit.

    Args:
        path: The job file.
        overrides: `key=value` pairs.
        out: File for the plan of one trial as JSON.

    Raises:
        JobError: The job cannot be used, or `max_cost` is less than one trial can cost.
    """
    search = load_search_job(path, overrides)
    unknown = require_inputs(search.job, path.parent)
    plan = make_plan(search.job)
    if code := show_plan(plan, path, unknown, out):
        return code
    lines = [f"That is one trial. {time_line(search, plan)}", cost_line(search, plan)]
    if search.settings.max_cost is not None:
        priced = price_job(search.job, search.settings, str(path), on_sagemaker=False)
        require_enough(search, priced)
        limit = search.settings.max_cost
        lines.append(f"max_cost: no trial starts that could bring the sum above {limit:.2f} USD")
        lines.append(price_line(search, priced, seeds_usd(search, priced)))
    console = Console(highlight=False)
    for line in filter(None, lines):
        console.print(line, soft_wrap=True)
    return 0
