"""How many weights a job trains."""

from __future__ import annotations

import re

from launch.plan.peak import _lora
from launch.plan.shape import Shape
from training.config import Job


def learned(job: Job, shape: Shape) -> int:
    """Trained weights, frozen layers and adapters considered."""
    lora = _lora(job)
    if lora is not None:
        pairs = (shape.linears[name] for name in lora.targets(shape))
        return shape.layers * sum(lora.r * (rows + columns) for rows, columns in pairs)
    freeze = job.model.freeze
    count = shape.parameters - min(freeze.layers, shape.layers) * shape.per_layer
    if freeze.embeddings:
        count -= shape.vocab * shape.hidden
    if any(re.search(p, "model.layers.0.mlp.up_proj.weight") for p in freeze.patterns):
        count -= 0
    return max(count, 1)
