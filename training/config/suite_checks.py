"""Checks of `evaluate.suite` against the rest of the job."""

from __future__ import annotations

from collections.abc import Iterator

from training.config.job import Job
from training.errors import Problem


def check_suites(job: Job, first: bool) -> Iterator[Problem]:
    """Yield why the trained model of a job could not be evaluated on suites."""
    suites = job.evaluate.suite
    if not suites:
        return
    if not job.method.trains:
        yield Problem(
            "evaluate.suite",
            f"is for a run that trains a model, and {job.method.kind} only writes rows",
            fix="Set it in the stage that trains",
        )
    if job.method.head == "score":
        yield Problem(
            "evaluate.suite", "a reward model returns scores, not text", fix="Leave it out"
        )
    if job.adapter is not None and not job.adapter.mergeable:
        yield Problem(
            "evaluate.suite",
            "evaluates the adapter merged into its base, and this kind cannot be merged",
            job.adapter.kind,
            "Leave it out, or train lora",
        )
    repeated = sorted({suite for suite in suites if suites.count(suite) > 1})
    if repeated:
        yield Problem("evaluate.suite", "a suite is in the list twice", repeated[0])
