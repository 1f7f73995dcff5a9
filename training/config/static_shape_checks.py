"""Checks of `train.static_shapes`: what a job cannot combine with shapes that never change."""

from __future__ import annotations

from collections.abc import Iterator

from training.config.distill import Distill
from training.config.job import Job
from training.errors import Problem


def check_static_shapes(job: Job, first: bool) -> Iterator[Problem]:
    """Yield what has no static shapes in a job that asks for them."""
    if not job.train.static_shapes:
        return
    on_policy = isinstance(job.method, Distill) and job.method.on_policy > 0
    if job.method.max_new_tokens or on_policy:
        yield Problem(
            "train.static_shapes",
            f"{job.method.kind} samples answers while it trains, which grow by a token per pass",
            "true",
            "Leave it out" + (", or leave method.on_policy out" if on_policy else ""),
        )
    if job.data.packing and job.model.attention == "flash_attention_2":
        yield Problem(
            "train.static_shapes",
            "flash_attention_2 gets the boundaries of packed documents as a list, whose length "
            "changes with every batch",
            "true",
            "Use model.attention: sdpa, or leave train.static_shapes out",
        )
