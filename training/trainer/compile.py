"""`train.compile`: the layers of a model, compiled in place, for training steps alone.

Compiling in place leaves every parameter's name as it was, so that checkpoints, guards and the
saved model see the model they know. Layers are alike, so one of them pays for all. Evaluations and
sampled answers run eagerly: their shapes vary, and each would be compiled anew.
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
    """Return a context in which layers run compiled, where that is wanted."""
    return torch.compiler.set_stance("default") if wanted else nullcontext()
