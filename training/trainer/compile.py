"""`train.compile`: the layers of a model, compiled in place, for training steps only.

Compiling in place keeps every parameter's name, so checkpoints, guards and the saved model are
unaffected. All layers have the same code, so one compilation serves them all. Evaluation and
generation run eagerly: their shapes vary, and every new shape would be compiled again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def compile_layers(model: nn.Module) -> None:
    """Compile each layer of `model` in place."""
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.compile()
    torch.compiler.set_stance("force_eager")


def compiled_step(wanted: bool) -> AbstractContextManager[Any]:
    """Return a context in which layers run compiled if `wanted`."""
    return torch.compiler.set_stance("default") if wanted else nullcontext()
