"""Warnings about too few training rows, shown before training."""

from __future__ import annotations

from collections.abc import Iterator

from training.config.job import Job

_FULL = 1_000
"""Rows below which full fine-tuning mostly memorizes: LIMA, with 1,000 carefully chosen rows, is
the smallest set known to suffice (arXiv:2305.11206)."""
_ADAPTER = 100
"""Rows below which even an adapter mostly memorizes; hundreds suffice for many tasks."""
_HIGH_RANK_ROWS = 10_000
_HIGH_RANK = 16
_HELD_OUT = 20
"""Held-out rows below which the loss of a single row moves the mean visibly."""


def sample_size_warnings(job: Job, *, documents: int, held_out: int) -> Iterator[str]:
    """Yield warnings about sets that are too small for the method.

    Args:
        job: The run.
        documents: Training rows, before packing.
        held_out: Held-out rows.
    """
    if job.method.kind != "sft":
        return
    if job.adapter is None and documents < _FULL and job.model.source != "scratch":
        yield (
            f"{documents:,} rows are few for full fine-tuning: below about {_FULL:,}, a model "
            "mostly memorizes them. An adapter (adapter: {kind: lora}) needs fewer, or add rows"
        )
    elif job.adapter is not None and documents < _ADAPTER:
        yield (
            f"{documents:,} rows are few even for an adapter: below about {_ADAPTER}, a model "
            "mostly memorizes them. Add rows, or put examples into the prompt instead"
        )
    rank = getattr(job.adapter, "r", 0)
    if rank > _HIGH_RANK and documents < _HIGH_RANK_ROWS:
        yield (
            f"adapter.r {rank} is high for {documents:,} rows: with fewer than "
            f"{_HIGH_RANK_ROWS:,}, a rank of {_HIGH_RANK} or less overfits less"
        )
    if 0 < held_out < _HELD_OUT:
        yield (
            f"{held_out:,} held-out rows are few: their loss is noisy, so that early stopping and "
            "comparisons may follow chance. Hold out more"
        )
