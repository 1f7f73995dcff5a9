"""The work of `temper plan`: print the plan of a job and, if asked, write it as JSON."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from planning import make_plan
from planning.document import Plan
from planning.managed.plan import managed_plan, only_managed, with_public_model
from planning.managed.quote import managed_quotes
from training.config import Job, Pipeline, load_job
from training.config.input_paths import require_inputs
from training.errors import JobError, Problem


def print_plan(path: Path, overrides: str = "", out: Path | None = None) -> int:
    """Print the plan of a job file and return the exit code: 0 if the job fits, 2 if not.

    Args:
        path: The job file.
        overrides: `key=value` pairs for it, separated by spaces.
        out: Write the plan to this file as well, for programs.

    Raises:
        JobError: The job file cannot be used, or `out` cannot be written.
        TemperError: An input of the job does not exist.
    """
    try:
        job = load_job(path, overrides)
        unknown = require_inputs(job, path.parent)
        plan = managed_plan(job) if only_managed(job) else _own_plan(job)
    except JobError as error:
        raise JobError(str(path), error.problems) from None
    return show_plan(plan, path, unknown, out)


def _own_plan(job: Job | Pipeline) -> Plan:
    """Return the plan of a job on the machines that it names, next to what providers ask."""
    return replace(make_plan(with_public_model(job)), managed=tuple(managed_quotes(job)))


def show_plan(plan: Plan, path: Path, unknown: list[str], out: Path | None) -> int:
    """Print a plan, and return the exit code: 0 if the job fits, 2 if not.

    Args:
        plan: The plan.
        path: The job file, for messages.
        unknown: Lines about inputs that could not be checked.
        out: File to which the plan is written as JSON; None to write none.

    Raises:
        JobError: The file cannot be written.
    """
    if out:
        _write(plan, path, out)
    from rich.console import Console

    from planning.render import render_plan, render_refusal

    console = Console(highlight=False)
    for line in unknown:
        console.print(line, soft_wrap=True)
    render_plan(plan, console)
    # One line for each reason, whatever the width: programs read it and people search for it.
    render_refusal(plan, str(path), Console(stderr=True, highlight=False, soft_wrap=True))
    return 0 if plan.fits else 2


def _write(plan: Plan, path: Path, out: Path) -> None:
    """Write a plan as JSON.

    Raises:
        JobError: It cannot be written.
    """
    try:
        plan.write(out)
    except OSError as error:
        problem = Problem("--out", f"cannot be written: {error.strerror}", str(out))
        raise JobError(str(path), [problem]) from None
