"""What a job keeps on disk, with the arithmetic in words."""

from __future__ import annotations

from planning.dataset_stats import DatasetStats
from planning.memory.optimizers import state_bytes
from planning.model_shape import ModelShape
from training.config import Job
from training.config.model import PREVIOUS, SCRATCH, STAGE

_GIB = 2.0**30
_CACHE_PER_TOKEN = 9.0
"""Bytes of a token in the cache: id and label, 4 bytes each, and its share of the row's columns."""
_LOGS_GIB = 0.05


def disk_gib(
    job: Job, shape: ModelShape, rows: DatasetStats, learned: int, *, upon_adapter: bool = False
) -> tuple[dict[str, float], list[str]]:
    """GiB by part with their `total`, and how each was reckoned.

    Args:
        job: The run.
        shape: Of its model.
        rows: Of its data.
        learned: Weights that are trained.
        upon_adapter: Whether it starts from an adapter that an earlier stage trained.
    """
    everything = job.adapter is None
    bytes_each, start = _start(job, upon_adapter=upon_adapter)
    weights = shape.parameters * bytes_each / _GIB
    per_weight = 4 if everything or not job.sharding.zero else 2
    states = 4 * bool(job.sharding.zero) + state_bytes(job.train.optimizer, 1 << 20, 1 << 10) / (
        1 << 20
    )
    checkpoint = learned * (per_weight + states) / _GIB
    # One more than is kept: the newest is whole before the oldest goes.
    kept = job.checkpoint.keep + 1 if job.method.trains else 0
    saved = (shape.parameters if everything else learned) if job.method.trains else 0
    model = saved * 4 / _GIB
    tokens = (rows.train + rows.held_out) * rows.tokens
    cache = tokens * _CACHE_PER_TOKEN / _GIB
    found = {
        "weights": weights,
        "checkpoints": checkpoint * kept,
        "model": model,
        "data": rows.size_gib,
        "cache": cache + _LOGS_GIB,
    }
    counted = {
        "weights": f"{format_count(shape.parameters)} × {bytes_each} bytes{start}"
        if weights
        else "",
        "checkpoints": f"{format_count(learned)} trained × {per_weight + states:.3g} bytes × "
        f"({job.checkpoint.keep} kept + 1 being written)"
        if kept
        else "",
        "model": f"{format_count(saved)} × 4 bytes" if saved else "",
        "cache": f"{format_count(tokens)} tokens × {_CACHE_PER_TOKEN:g} bytes, and logs",
    }
    words = [f"{part}: {how} = {_size(found[part])}" for part, how in counted.items() if how]
    return {**found, "total": sum(found.values())}, words


def _start(job: Job, *, upon_adapter: bool) -> tuple[int, str]:
    """Bytes that each weight takes on disk before training, and why where that is not plain.

    What an earlier stage left is counted there.
    """
    source = job.model.source
    if source == SCRATCH:
        return 4, " (the random start is saved)"
    if upon_adapter and job.adapter is not None:
        return (4 if job.precision == "fp32" else 2), " (the adapter before is merged)"
    return (0 if source == PREVIOUS or source.startswith(STAGE) else 2), ""


def _size(gib: float) -> str:
    """GiB in the unit that suits it."""
    return f"{gib:.1f} GiB" if gib >= 1 else f"{gib * 1024:.0f} MiB"


def format_count(number: float) -> str:
    """A large number in short: `8.03 billion`."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:,.0f}"
