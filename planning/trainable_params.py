"""Number of weights that a job trains, and the lowest layer that has some."""

from __future__ import annotations

from collections.abc import Iterator

from planning.expert_adapters import count_on_experts
from planning.memory.adapters import LoraCost, saved_weights, trained_token_rows
from planning.model_shape import ModelShape
from planning.peak_memory import adapter_of, widths
from training.config import Job


def count_trainable(job: Job, shape: ModelShape) -> int:
    """Return the number of trained weights, with frozen layers and adapters taken into account."""
    adapter = adapter_of(job, shape)
    saved = sum(
        count * (shape.layers if name in {*shape.linears, *shape.norms} else 1)
        for name, count in saved_weights(adapter, shape).items()
    )
    if isinstance(adapter, LoraCost):
        pairs = list(_adapted(adapter, shape))
        magnitudes = sum(rows for rows, _ in pairs) if adapter.dora else 0
        values = 1 if adapter.scored else 0
        low_rank = sum(adapter.r * (rows + columns + values) for rows, columns in pairs)
        layers = sum(map(adapter.adapts, range(shape.layers)))
        experts = shape.layers * count_on_experts(job.adapter, shape)
        tokens = trained_token_rows(adapter, shape) * shape.hidden
        return layers * (low_rank + magnitudes) + experts + saved + tokens
    if job.adapter is not None:
        return job.adapter.num_trained(widths(shape)) + saved
    freeze = job.model.freeze
    count = shape.parameters - min(freeze.layers, shape.layers) * shape.per_layer
    if freeze.embeddings:
        count -= shape.vocab * shape.hidden
    return max(count, 1)


def _adapted(adapter: LoraCost, shape: ModelShape) -> Iterator[tuple[int, int]]:
    """Yield rows and columns of the adapted linear layers of one decoder layer."""
    for name in adapter.targets(shape):
        yield shape.linears[name]


def lowest_trained_layer(job: Job, shape: ModelShape, *, checkpointing: bool) -> int:
    """Return the index of the lowest layer that a gradient must reach.

    Args:
        job: The run.
        shape: Shape of its model.
        checkpointing: True for gradient checkpointing, for which PEFT makes the embedded input
            require a gradient, so that it passes through all layers.
    """
    adapter, freeze = adapter_of(job, shape), job.model.freeze
    if adapter is None:
        # Trained embeddings need a gradient even if the layers above them are frozen.
        return min(freeze.layers, shape.layers) if freeze.embeddings else 0
    if not isinstance(adapter, LoraCost) or adapter.layers is None or checkpointing:
        return 0
    if adapter.tokens or "model.embed_tokens" in saved_weights(adapter, shape):
        return 0
    return min(adapter.layers)
