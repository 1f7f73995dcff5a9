"""Recorder of the routers of a mixture of experts, for the forward passes with gradients.

Transformers returns router logits only from the forward of a causal language model
(`output_router_logits=True`), which most methods here replace: fused log-probabilities, a
distillation head, a score head, a critic. Hooks on the routers see every kind of forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.output_capturing import OutputRecorder

_KEY = "router_logits"


class RouterRecorder:
    """Hooks that keep the router logits of each forward pass with gradients.

    A pass is opened by the body of a model, not by a router: with gradient checkpointing, the
    backward pass runs the routers once more, and these logits are the same ones again.

    Args:
        model: Model with its adapters, or several models in one module.

    Attributes:
        passes: Router logits of each recorded pass, one tensor [tokens, experts] per layer.
    """

    def __init__(self, model: nn.Module):
        self.passes: list[list[Tensor]] = []
        self._open: list[Tensor] | None = None
        self._recording = False
        for body in expert_bodies(model):
            body.register_forward_pre_hook(self._begin)
            body.register_forward_hook(self._end, always_call=True)
            for router, index in routers(body):
                router.register_forward_hook(self._keeper(index))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the passes with gradients in this context; a reference's have none."""
        self.passes, self._recording = [], True
        try:
            yield
        finally:
            self._recording = False

    def take(self) -> list[list[Tensor]]:
        """Return the recorded passes and forget them, so that their graph can be freed."""
        taken, self.passes = self.passes, []
        return taken

    def _begin(self, *_: Any) -> None:
        self._open = [] if self._recording and torch.is_grad_enabled() else None

    def _end(self, *_: Any) -> None:
        if self._open:
            self.passes.append(self._open)
        self._open = None

    def _keeper(self, index: int) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if self._open is not None:
                self._open.append(output[index] if isinstance(output, tuple) else output)

        return keep


def expert_bodies(model: nn.Module) -> list[PreTrainedModel]:
    """Return the bodies of the mixtures of experts in `model`; an empty list if it is none.

    A body is the innermost Transformers model that holds the routers (`MixtralModel`, not
    `MixtralForCausalLM`).
    """
    candidates = [
        module
        for module in model.modules()
        if isinstance(module, PreTrainedModel) and next(routers(module), None) is not None
    ]
    return [
        body
        for body in candidates
        if not any(other is not body and _holds(body, other) for other in candidates)
    ]


def routers(body: PreTrainedModel) -> Iterator[tuple[nn.Module, int]]:
    """Yield the routers of a model, and the position of the logits in the output of each.

    Args:
        body: Model whose class declares to Transformers which of its modules are routers.
    """
    declared = (getattr(body, "_can_record_outputs", None) or {}).get(_KEY)
    recorders = declared if isinstance(declared, list) else [declared]
    for recorder in recorders:
        if not isinstance(recorder, OutputRecorder):
            continue
        for name, module in body.named_modules():
            named = recorder.layer_name is None or f".{recorder.layer_name}." in f".{name}."
            if isinstance(module, recorder.target_class) and named:
                yield module, recorder.index


def _holds(outer: nn.Module, inner: nn.Module) -> bool:
    return any(module is inner for module in outer.modules())
