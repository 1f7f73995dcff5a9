"""Freezing of layers, embeddings and parameters by pattern."""

from __future__ import annotations

import re

from transformers import PreTrainedModel

from training.config.model import Freeze
from training.errors import ModelError

_LAYER = re.compile(r"\.(?:layers|h|blocks|layer)\.(\d+)\.")


def freeze(model: PreTrainedModel, what: Freeze) -> None:
    """Freeze the parameters that the job names.

    Raises:
        ModelError: A pattern matches nothing, the model has fewer layers, or all is frozen.
    """
    if not what.anything:
        return
    names = [name for name, _ in model.named_parameters()]
    num_layers = 1 + max((int(m[1]) for name in names if (m := _LAYER.search(name))), default=-1)
    if what.layers > num_layers:
        raise ModelError(f"model.freeze.layers is {what.layers}; the model has {num_layers} layers")
    for pattern in what.patterns:
        if not any(re.search(pattern, name) for name in names):
            raise ModelError(
                f"model.freeze.patterns: {pattern!r} matches no parameter. Names look like "
                f"{', '.join(names[:3])}"
            )
    if what.embeddings:
        model.get_input_embeddings().requires_grad_(False)
    for name, parameter in model.named_parameters():
        layer = _LAYER.search(name)
        in_layers = layer is not None and int(layer[1]) < what.layers
        if in_layers or any(re.search(pattern, name) for pattern in what.patterns):
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError("model.freeze leaves nothing to learn: every parameter is frozen")
