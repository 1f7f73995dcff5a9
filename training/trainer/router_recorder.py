"""Recorder of the routers of a mixture of experts, for the forward passes with gradients.

Transformers returns router logits only from the forward of a causal language model
(`output_router_logits=True`), which most methods here replace: fused log-probabilities, a
distillation head, a score head, a critic. Hooks on routers and experts see every forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.output_capturing import OutputRecorder

from training.expert_load import ExpertCounts

_KEY = "router_logits"


class RouterRecorder:
    """Hooks that keep the router logits and the tokens per expert of forward passes.

    A pass is opened by the body of a model, not by a router: with gradient checkpointing, the
    backward pass runs the routers once more, and these logits are the same ones again.

    Args:
        model: Model with its adapters, or several models in one module.
        keep_logits: Whether to keep the logits; tokens are always counted.

    Attributes:
        passes: Router logits of each recorded pass, one tensor [tokens, experts] per layer.
    """

    def __init__(self, model: nn.Module, *, keep_logits: bool):
        self.passes: list[list[Tensor]] = []
        self._open: list[Tensor] | None = None
        self._recording = False
        self._mask: Tensor | None = None
        self._counts: dict[str, tuple[int, Tensor]] = {}
        for body in expert_bodies(model):
            body.register_forward_pre_hook(self._begin)
            body.register_forward_hook(self._end, always_call=True)
            for router, index in routers(body) if keep_logits else ():
                router.register_forward_hook(self._keeper(index))
        for name, experts in _experts(model):
            experts.register_forward_pre_hook(self._counter(name), with_kwargs=True)

    @contextmanager
    def recording(self, mask: Tensor | None) -> Iterator[None]:
        """Record the passes with gradients in this context; a reference's have none.

        Args:
            mask: 1 at the tokens of the micro-batch that are not padding, [rows, sequence]; None if
                it has no padding.
        """
        self.passes, self._recording, self._mask = [], True, mask
        try:
            yield
        finally:
            self._recording = False

    def take_passes(self) -> list[list[Tensor]]:
        """Return the recorded passes and forget them, so that their graph can be freed."""
        taken, self.passes = self.passes, []
        return taken

    def take_counts(self) -> list[ExpertCounts]:
        """Return the tokens per expert of all passes since the last call."""
        taken, self._counts = self._counts, {}
        return [
            ExpertCounts(name, top_k, tuple(int(count) for count in counts.tolist()))
            for name, (top_k, counts) in taken.items()
        ]

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

    def _counter(self, name: str) -> Any:
        def count(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            if self._open is None:
                return
            chosen = next(
                value
                for value in (*inputs, *named.values())
                if isinstance(value, Tensor) and value.dtype in (torch.int32, torch.int64)
            )
            with torch.no_grad():
                experts = int(cast(Any, module).num_experts)
                counts = _count(chosen, experts, self._mask)
            previous = self._counts.get(name)
            total = counts if previous is None else previous[1] + counts
            self._counts[name] = (chosen.shape[-1], total)

        return count


def fit_mask(mask: Tensor | None, tokens: int, device: torch.device) -> Tensor | None:
    """Return a mask for all tokens of a pass, [rows, sequence], with prompt tuning's virtual ones.

    Args:
        mask: 1 at the tokens of the micro-batch that are not padding; None for no padding.
        tokens: Tokens of the pass.
        device: Device of the pass.
    """
    if mask is None:
        return None
    virtual = tokens // mask.shape[0] - mask.shape[1]
    return nn.functional.pad(mask.to(device), (virtual, 0), value=1)


def _count(chosen: Tensor, experts: int, mask: Tensor | None) -> Tensor:
    """Return the tokens of each expert, [experts].

    Args:
        chosen: Experts of each token, [tokens, experts per token].
        experts: Number of experts.
        mask: 1 at the tokens that are not padding.
    """
    fitted = fit_mask(mask, len(chosen), chosen.device)
    weights = torch.ones_like(chosen) if fitted is None else fitted.reshape(-1, 1).expand_as(chosen)
    counts = torch.zeros(experts, dtype=torch.long, device=chosen.device)
    return counts.scatter_add_(0, chosen.reshape(-1).long(), weights.reshape(-1).long())


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


def _experts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that hold the experts of a layer, with the names of the base model."""
    for name, module in model.named_modules():
        if hasattr(module, "num_experts") and "down_proj" in module._parameters:
            # PEFT wraps the model, and the module once per parameter that it adapts.
            yield name.replace(".base_layer", "").replace("base_model.model.", ""), module


def _holds(outer: nn.Module, inner: nn.Module) -> bool:
    return any(module is inner for module in outer.modules())
