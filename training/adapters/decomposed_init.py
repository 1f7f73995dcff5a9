"""LoRA initialized from a decomposition of the weights: PiSSA and OLoRA.

PiSSA (arXiv:2404.02948) initializes B A with the best rank-r approximation of W, OLoRA
(arXiv:2406.01775) with the first r columns of Q and rows of R of its QR decomposition, and both
train it on top of W - s · B0 A0. Here W is not modified, and the adapter is a LoRA of rank 2r that
computes the same function:

    W + s · [B, -B0] [A; A0]

A0 and B0 are frozen. A fresh adapter therefore changes nothing, and the saved adapter loads,
merges and is composed with the original model like any other LoRA. PEFT's own form needs the
residual W - s · B0 A0 instead of the original model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from peft import PeftModel
from peft.tuners.lora import Linear, LoraLayer
from peft.utils.integrations import gather_params_ctx

from training.errors import ModelError

_ITERATIONS = 16
"""Subspace iterations of the randomized SVD: the paper finds no gain from more than 16."""
_EXACT_UP_TO = 1024
"""Smaller dimension of a weight up to which the exact SVD is used; beyond, it takes seconds."""
_NAME = "default"


def init_from_weights(tuned: PeftModel, r: int, init: Literal["pissa", "olora"]) -> None:
    """Fill the matrices of a fresh LoRA of rank 2r.

    Args:
        tuned: The model with the LoRA.
        r: Number of trained components.
        init: Name of the decomposition.

    Raises:
        ModelError: A targeted module is not a plain linear layer, or is smaller than the rank.
    """
    for name, layer in tuned.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        if not isinstance(layer, Linear) or not layer.weight.is_floating_point():
            raise ModelError(
                f"adapter.init {init}: {name} is a {type(layer.get_base_layer()).__name__}, whose "
                f"weight cannot be decomposed to start from. Leave it out of "
                f"adapter.target_modules, or use init: zero"
            )
        down, up = layer.lora_A[_NAME].weight, layer.lora_B[_NAME].weight
        # Under ZeRO 3 the weight is sharded until it is gathered.
        with torch.no_grad(), gather_params_ctx(layer.get_base_layer().weight):
            weight = layer.get_base_layer().weight.float()
            weight = weight.T if layer.fan_in_fan_out else weight
            if r > min(weight.shape):
                raise ModelError(
                    f"adapter.r {r} is more than {name} has components: it is "
                    f"{weight.shape[1]} by {weight.shape[0]}. Lower it, or use init: zero"
                )
            a, b = _DECOMPOSITIONS[init](weight, r, layer.scaling[_NAME])
            down.copy_(torch.cat([a, a]))
            up.copy_(torch.cat([b, -b], dim=1))
        down.register_hook(_keep_first(r, dim=0))
        up.register_hook(_keep_first(r, dim=1))


def _pissa(weight: torch.Tensor, r: int, scaling: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A `[r, inputs]` and B `[outputs, r]`: scaling · BA is the best approximation.

    Args:
        weight: Weight of the layer, `[outputs, inputs]`.
        r: Number of components.
        scaling: Factor of BA in the layer.
    """
    u, s, v = _components(weight, r)
    root = (s / scaling).sqrt()
    return root[:, None] * v.T, u * root


def _olora(weight: torch.Tensor, r: int, scaling: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A `[r, inputs]` and B `[outputs, r]`: the first rows of R and columns of Q.

    Args:
        weight: Weight of the layer, `[outputs, inputs]`.
        r: Number of rows and columns.
        scaling: Not used: the update starts as scaling · BA, as in PEFT.
    """
    q, upper = torch.linalg.qr(weight)
    return upper[:r], q[:, :r]


_DECOMPOSITIONS = {"pissa": _pissa, "olora": _olora}


def _components(weight: torch.Tensor, r: int) -> tuple[torch.Tensor, ...]:
    """Return the r largest components: U `[outputs, r]`, their values `[r]`, V `[inputs, r]`."""
    if min(weight.shape) > _EXACT_UP_TO:
        return torch.svd_lowrank(weight, q=r, niter=_ITERATIONS)
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    return u[:, :r], s[:r], vh[:r].T


def _keep_first(r: int, dim: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a gradient hook that zeroes all but the first r rows or columns."""

    def mask(gradient: torch.Tensor) -> torch.Tensor:
        masked = torch.zeros_like(gradient)
        masked.narrow(dim, 0, r).copy_(gradient.narrow(dim, 0, r))
        return masked

    return mask
