"""Rows that the tokens of `model.add_tokens` add to a model's embeddings."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from planning.hub_cache import tokenizer_file
from planning.model_shape import ModelShape
from training.config.model import Model


def with_added_tokens(shape: ModelShape, model: Model) -> ModelShape:
    """Return the shape of a model with rows for its added tokens.

    Spare rows are used first, if the tokenizer is on this machine to count them.

    Args:
        shape: Shape of the model without them.
        model: The job's section.
    """
    if not model.add_tokens:
        return shape
    vocabulary = read_vocabulary(model)
    if vocabulary is None:
        return replace(shape, vocab=shape.vocab + len(model.add_tokens))
    missing = sum(token not in vocabulary for token in model.add_tokens)
    return replace(shape, vocab=max(shape.vocab, max(vocabulary.values()) + 1 + missing))


def read_vocabulary(model: Model) -> dict[str, int] | None:
    """Return the ids of a model's tokens; None if its tokenizer is not on this machine."""
    path = tokenizer_file(model)
    try:
        document = json.loads(path.read_text("utf-8")) if path is not None else None
    except (OSError, ValueError):
        return None
    return None if document is None else _ids(document)


def _ids(document: dict[str, Any]) -> dict[str, int]:
    ids = document["model"]["vocab"]
    if isinstance(ids, list):
        # A Unigram model lists pairs of a token and its score, in the order of their ids.
        ids = {str(pair[0]): i for i, pair in enumerate(ids)}
    return {**ids, **{one["content"]: one["id"] for one in document.get("added_tokens", ())}}
