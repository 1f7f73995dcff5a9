"""The shape of a model, read from its `config.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.config import Job
from training.config.model import SCRATCH
from training.errors import JobError, Problem


@dataclass(frozen=True)
class Shape:
    """A decoder, as its `config.json` describes it."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool

    @property
    def linear_per_layer(self) -> int:
        """Weights of a layer's linear maps."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate

    @property
    def parameters(self) -> int:
        """All weights."""
        embeddings = self.vocab * self.hidden * (1 if self.tied else 2)
        return embeddings + self.layers * (self.linear_per_layer + 2 * self.hidden) + self.hidden


def read_shape(job: Job) -> Shape:
    """The shape of a job's model.

    Raises:
        JobError: There is no `config.json` to read.
    """
    if job.model.source == SCRATCH:
        assert job.model.scratch is not None
        found: dict[str, Any] = job.model.scratch.model_dump(exclude_none=True)
        found.setdefault("vocab_size", 32_000)
    else:
        path = Path(job.model.source) / "config.json"
        try:
            found = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise JobError(
                job.name,
                [
                    Problem(
                        "model.source",
                        f"has no config.json to plan with ({error.strerror})",
                        job.model.source,
                        "Name a folder that has one",
                    )
                ],
            ) from None
    heads = int(found["num_attention_heads"])
    return Shape(
        hidden=int(found["hidden_size"]),
        intermediate=int(found["intermediate_size"]),
        layers=int(found["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(found.get("num_key_value_heads") or heads),
        head_dim=int(found.get("head_dim") or found["hidden_size"] // heads),
        vocab=int(found["vocab_size"]),
        tied=bool(found.get("tie_word_embeddings", True)),
    )
