"""Checks of `evaluate.safety` against the rest of the job."""

from __future__ import annotations

from collections.abc import Iterator

from training.config.job import Job
from training.config.judges import Endpoint, LocalJudge
from training.errors import Problem


def check_safety(job: Job, first: bool) -> Iterator[Problem]:
    """Yield why the trained model of a job could not answer, or its judge not decide."""
    safety = job.evaluate.safety
    if safety is None:
        return
    if not job.method.trains:
        yield Problem(
            "evaluate.safety",
            f"is for a run that trains a model, and {job.method.kind} only writes rows",
            fix="Set it in the stage that trains",
        )
    if job.method.head == "score":
        yield Problem(
            "evaluate.safety",
            "a reward model returns scores, not text",
            fix="Leave it out",
        )
    if job.adapter is not None and not job.adapter.mergeable:
        yield Problem(
            "evaluate.safety",
            "measures the adapter merged into its base, and this kind cannot be merged",
            job.adapter.kind,
            "Leave it out, or train lora",
        )
    judge = safety.judge
    if isinstance(judge, LocalJudge) and judge.source is None:
        yield Problem(
            "evaluate.safety.judge.source",
            "is required: a model must not judge its own answers",
            fix="Name a folder or a Hub id",
        )
    if isinstance(judge, Endpoint) and judge.price is None and job.resources.max_cost is not None:
        yield Problem(
            "evaluate.safety.judge.price",
            "is required with resources.max_cost: without it, the limit cannot be kept",
            fix="Set price: {input: …, output: …} in USD per million tokens",
        )
