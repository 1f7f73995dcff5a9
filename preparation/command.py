"""Command `temper prepare`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preparation.config.load import load_preparation
from training.errors import JobError, Problem
from training.run_folder import write_whole

if TYPE_CHECKING:
    from preparation.config.job import PreparationJob
    from preparation.executors.task_runner import RunnerFactory

_MAX_WARNINGS = 10
"""Warnings about groups that are printed; the report has all."""
PREPARED_ALREADY = "prepared already"
"""Opening of the line for a data set that exists; a pipeline sees by it that data are unchanged."""


def check_preparation(job_file: Path, overrides: str = "") -> None:
    """Check a job file without reading its sources, and print that it is valid.

    Raises:
        JobError: It is not; the error lists every problem.
    """
    load_preparation(job_file, overrides)
    _say(f"{job_file}: fine")


def plan_preparation(job_file: Path, overrides: str = "", out: Path | None = None) -> None:
    """Print what a preparation takes on this machine, from a sample of its rows.

    The requests of a section `synthesize` are priced. The rows that they will write are not in the
    estimate.

    Args:
        job_file: Job file of the preparation.
        overrides: `key=value` pairs.
        out: Write the estimate to this file as JSON.

    Raises:
        JobError: The job is invalid, or `out` cannot be written.
        TemperError: A source or a step cannot be used.
    """
    from preparation.estimate import estimate
    from preparation.plan import plan
    from preparation.source_copies import copy_sources

    job = load_preparation(job_file, overrides)
    usd = _print_synthesis_cost(job)
    planned = plan(job, copies=copy_sources(job, _say))
    size = sum(unit.bytes for unit in planned.units) / (1 << 20)
    cores = planned.job.prepare.workers or len(os.sched_getaffinity(0))
    _say(f"{planned.job.name}: {len(planned.units)} units, {size:,.1f} MiB")
    found = estimate(planned)
    _say(found.line(cores))
    if out is not None:
        facts = {**asdict(found), "cores": cores, "seconds": found.seconds(cores)}
        facts |= {"memory_gib": found.memory_gib(cores), "synthesis_usd": usd}
        try:
            write_whole(out, json.dumps(facts, indent=1) + "\n")
        except OSError as error:
            problem = Problem("--out", f"cannot be written: {error.strerror}", str(out))
            raise JobError(str(job_file), [problem]) from None


def _print_synthesis_cost(job: PreparationJob) -> float:
    """Print the requests of a synthesis with their price, and return the greatest cost in USD.

    Raises:
        DataError: A source of the synthesis cannot be read.
    """
    if job.synthesize is None:
        return 0.0
    from preparation.synthesis.cost import estimate as estimate_synthesis

    cost = estimate_synthesis(job.synthesize)
    for line in cost.lines():
        _say(line)
    _say("what follows is without the rows that these requests will write")
    return cost.usd


def prepare(
    job_file: Path, overrides: str = "", *, fresh: bool = False, on_ray: bool = False
) -> int:
    """Run a preparation, print what it did, and return the exit code.

    Args:
        job_file: Job file of the preparation.
        overrides: `key=value` pairs.
        fresh: Discard what an earlier run has built.
        on_ray: Run its tasks in a Ray cluster.
    """
    run_preparation(job_file, overrides, fresh=fresh, on_ray=on_ray)
    return 0


def run_preparation(
    job_file: Path, overrides: str = "", *, fresh: bool = False, on_ray: bool = False
) -> str:
    """Run a preparation, print what it did, and return the folder of the data set.

    Args:
        job_file: Job file of the preparation.
        overrides: `key=value` pairs.
        fresh: Discard what an earlier run has built.
        on_ray: Run its tasks in a Ray cluster.

    Raises:
        TemperError: The job is invalid, or its data set cannot be built.
    """
    job = load_preparation(job_file, overrides)
    from preparation.build import build
    from preparation.executors.local import LocalTasks
    from preparation.executors.nodes import ALONE, this_node
    from preparation.leftovers import remove_leftovers
    from preparation.passes.building import REPORT_FILE, read_json
    from preparation.plan import plan
    from preparation.source_copies import copy_sources
    from preparation.storage import LATEST, is_finished, open_folder

    runner = _ray_runner(job) if on_ray else LocalTasks
    if job.synthesize is not None:
        from preparation.synthesized import with_synthesized

        job = with_synthesized(job, _say)
    planned = plan(job, copies=copy_sources(job, _say))
    size = sum(unit.bytes for unit in planned.units) / (1 << 20)
    _say(f"{job.name}: {len(planned.units)} units, {size:,.1f} MiB, folder {planned.folder}")
    if is_finished(planned.folder) and not fresh:
        _say(f"{PREPARED_ALREADY}, from the same sources by the same steps")
    node = ALONE if on_ray else this_node()
    if node.index == 0:
        remove_leftovers(planned, _say)
    build(planned, _print_progress, node=node, fresh=fresh, runner=runner)
    report = read_json(open_folder(planned.folder), REPORT_FILE)
    for line in summary_lines(report):
        _say(line)
    _say(f"report: {planned.folder}/report.html")
    _say(f"train on it: data: {{train: {planned.folder.rpartition('/')[0]}/{LATEST}}}")
    return planned.folder


def _ray_runner(job: PreparationJob) -> RunnerFactory:
    """Return what runs tasks in a Ray cluster.

    Raises:
        RunError: Ray is not installed, or RAY_ADDRESS cannot be used.
    """
    from preparation.executors.ray_cluster import check_ray
    from preparation.executors.ray_tasks import RayTasks
    from preparation.steps.step import StepSection

    check_ray()
    sections = [step for step in job.prepare.steps if isinstance(step, StepSection)]
    variables = tuple(name for section in sections for name in section.variables())
    return partial(RayTasks, variables=variables, say=_say)


def summary_lines(report: dict[str, Any]) -> list[str]:
    """Return what each step did, in a line for each that did anything."""
    lines = []
    for step in report["steps"]:
        facts = []
        if step["changed"]:
            facts.append(f"changed {step['changed']:,} rows")
        for word, counts in (
            ("rejected", step["rejected"]),
            ("would reject", step["would_reject"]),
        ):
            if counts:
                listed = ", ".join(f"{reason} {count:,}" for reason, count in counts.items())
                facts.append(f"{word} {sum(counts.values()):,} ({listed})")
        if step["findings"]:
            listed = ", ".join(f"{kind} {count:,}" for kind, count in step["findings"].items())
            facts.append(f"found {listed}")
        if facts:
            lines.append(f"  {step['step']}: {'; '.join(facts)}")
    splits = ", ".join(f"{split} {rows:,}" for split, rows in report["splits"].items())
    lines += [f"  note: {notice}" for notice in report["notices"]]
    lines += [f"  warning: {warning}" for warning in report["warnings"][:_MAX_WARNINGS]]
    if left := len(report["warnings"]) - _MAX_WARNINGS:
        lines += [f"  and {left} more groups that lose more rows than others"] if left > 0 else []
    lines.append(f"{report['rows_read']:,} rows read, {report['rows_written']:,} written: {splits}")
    return lines


def _print_progress(name: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        sys.stderr.write(f"\r  {name}: {done} of {total} units{end}")
        sys.stderr.flush()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
