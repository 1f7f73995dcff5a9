"""Disk space of a job, with the calculation of each part."""

from __future__ import annotations

from planning.dataset_stats import DatasetStats
from planning.memory.optimizers import state_bytes
from planning.model_shape import ModelShape
from training.config import Job
from training.config.model import PREVIOUS, SCRATCH, STAGE

_GIB = 2.0**30
_CACHE_PER_TOKEN = 9.0
"""Bytes per token in the cache: id and label with 4 bytes each, and a share of the columns."""
_LOGS_GIB = 0.05


def disk_gib(
    job: Job, shape: ModelShape, rows: DatasetStats, learned: int, *, upon_adapter: bool = False
) -> tuple[dict[str, float], list[str]]:
    """Return the GiB by part with their `total`, and the calculation of each part.

    Args:
        job: The run.
        shape: Shape of its model.
        rows: Statistics of its data.
        learned: Number of trained weights.
        upon_adapter: True if the run starts from an adapter trained by an earlier stage.
    """
    everything = job.adapter is None
    bytes_each, start = _start(job, upon_adapter=upon_adapter)
    weights = shape.parameters * bytes_each / _GIB
    per_weight = 4 if everything or not job.sharding.zero else 2
    states = 4 * bool(job.sharding.zero) + state_bytes(job.train.optimizer, 1 << 20, 1 << 10) / (
        1 << 20
    )
    checkpoint = learned * (per_weight + states) / _GIB
    # One more than are kept: the newest is complete before the oldest is deleted.
    kept = job.checkpoint.keep + 1 if job.method.trains else 0
    saved = (shape.parameters if everything else learned) if job.method.trains else 0
    saved_bytes = _saved_bytes(job, shape)
    model = saved * saved_bytes / _GIB
    stage_before = job.model.source == PREVIOUS or job.model.source.startswith(STAGE)
    base_bytes = 4 if stage_before else 2
    exported_bytes = saved_bytes if job.adapter is None else base_bytes
    exports = (job.export in ("merged", "both")) + len(job.export_formats)
    merged = exports * shape.parameters * exported_bytes / _GIB
    best = learned * 4 / _GIB if job.train.keeps_best and job.method.trains else 0.0
    tokens = (rows.train + rows.held_out) * rows.tokens
    cache = tokens * _CACHE_PER_TOKEN / _GIB
    gib = {
        "weights": weights,
        "checkpoints": checkpoint * kept,
        "model": model,
        "best weights": best,
        "merged model": merged,
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
        "model": f"{format_count(saved)} × {saved_bytes} bytes" if saved else "",
        "best weights": f"{format_count(learned)} trained × 4 bytes" if best else "",
        "merged model": f"{exports} × {format_count(shape.parameters)} × {exported_bytes} bytes"
        if merged
        else "",
        "cache": f"{format_count(tokens)} tokens × {_CACHE_PER_TOKEN:g} bytes, and logs",
    }
    words = [f"{part}: {how} = {_size(gib[part])}" for part, how in counted.items() if how]
    return {**gib, "total": sum(gib.values())}, words


def _saved_bytes(job: Job, shape: ModelShape) -> int:
    """Return the bytes of a saved weight."""
    dtype = shape.dtype if job.save_dtype == "auto" else job.save_dtype
    return 2 if dtype in ("bf16", "fp16", "bfloat16", "float16") else 4


def _start(job: Job, *, upon_adapter: bool) -> tuple[int, str]:
    """Return the bytes per weight on disk before training, and a remark that explains them.

    The output of an earlier stage is counted in that stage.
    """
    source = job.model.source
    if source == SCRATCH:
        return 4, " (the random start is saved)"
    if upon_adapter and job.adapter is not None:
        return (4 if job.precision == "fp32" else 2), " (the earlier adapter is merged)"
    downloaded = 0 if source == PREVIOUS or source.startswith(STAGE) else 2
    if job.model.add_tokens:
        return downloaded + 2, " (a copy has the rows of the added tokens)"
    return downloaded, ""


def _size(gib: float) -> str:
    """Return a size in GiB or MiB."""
    return f"{gib:.1f} GiB" if gib >= 1 else f"{gib * 1024:.0f} MiB"


def format_count(number: float) -> str:
    """Return an abbreviated number: `8.03 billion`."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:,.0f}"
