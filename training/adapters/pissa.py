"""PiSSA: LoRA that starts from the principal components of the weights (arXiv:2404.02948).

Meng et al. train B A, which starts as the best approximation of W of rank r, on top of W - B0 A0.
Here W stays as it is and the adapter is a LoRA of rank 2r, which is the same function:

    W + s · [B, -B0] [A; A0]

A0 and B0 never move. So a fresh adapter changes nothing, and what is saved loads, merges and is
composed on the model itself like any other LoRA, where PEFT's own form needs W - B0 A0 at hand.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from peft import PeftModel
from peft.tuners.lora import Linear, LoraLayer
from peft.utils.integrations import gather_params_ctx

from training.errors import ModelError

_ITERATIONS = 16
"""Of the randomized decomposition: beyond 16 the paper finds no difference to the exact one."""
_EXACT_UP_TO = 1024
"""Width of a layer beyond which an exact decomposition takes long, on a CPU seconds and more."""
_NAME = "default"


def start_from_principal_components(tuned: PeftModel, r: int) -> None:
    """Fill the matrices of a fresh LoRA of rank 2r.

    Raises:
        ModelError: A layer is no plain linear one, or narrower than the rank.
    """
    for name, layer in tuned.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        if not isinstance(layer, Linear) or not layer.weight.is_floating_point():
            raise ModelError(
                f"adapter.init pissa: {name} is a {type(layer.get_base_layer()).__name__}, whose "
                f"weight has no principal components to start from. Leave it out of "
                f"adapter.target_modules, or use init: zero"
            )
        down, up = layer.lora_A[_NAME].weight, layer.lora_B[_NAME].weight
        with torch.no_grad(), gather_params_ctx(layer.get_base_layer().weight):
            weight = layer.get_base_layer().weight.float()
            weight = weight.T if layer.fan_in_fan_out else weight
            if r > min(weight.shape):
                raise ModelError(
                    f"adapter.r {r} is more than {name} has components: it is "
                    f"{weight.shape[1]} by {weight.shape[0]}. Lower it, or use init: zero"
                )
            u, s, v = _components(weight, r)
            root = (s / layer.scaling[_NAME]).sqrt()
            a, b = root[:, None] * v.T, u * root
            down.copy_(torch.cat([a, a]))
            up.copy_(torch.cat([b, -b], dim=1))
        down.register_hook(_first(r, 0))
        up.register_hook(_first(r, 1))


def _components(weight: torch.Tensor, r: int) -> tuple[torch.Tensor, ...]:
    """Return the r largest components: U [outputs, r], their values [r] and V [inputs, r]."""
    if min(weight.shape) > _EXACT_UP_TO:
        return torch.svd_lowrank(weight, q=r, niter=_ITERATIONS)
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    return u[:, :r], s[:r], vh[:r].T


def _first(r: int, dim: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what leaves of a gradient its first r rows or columns alone."""

    def leave(gradient: torch.Tensor) -> torch.Tensor:
        kept = torch.zeros_like(gradient)
        kept.narrow(dim, 0, r).copy_(gradient.narrow(dim, 0, r))
        return kept

    return leave
