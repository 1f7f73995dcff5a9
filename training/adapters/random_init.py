"""Random starts of a LoRA other than the one that PEFT draws by default."""

from __future__ import annotations

from collections.abc import Callable

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import nn

from training.errors import ModelError

_NAME = "default"


def init_at_random(tuned: PeftModel, init: str) -> None:
    """Draw the matrices of a fresh LoRA again, in fp32; the adapter still changes nothing.

    The matrices of embeddings keep the start that PEFT gives them.

    Args:
        tuned: The model with the LoRA.
        init: `orthogonal` or `xavier_uniform`.

    Raises:
        ModelError: A target is a parameter of stacked experts.
    """
    for name, layer in tuned.named_modules():
        if not isinstance(layer, LoraLayer) or _NAME not in layer.lora_A:
            continue
        if isinstance(layer, ParamWrapper):
            raise ModelError(
                f"adapter.init {init}: {name} holds the matrices of several experts in one tensor, "
                f"which it is not defined for. Use init: zero"
            )
        with torch.no_grad():
            STARTS[init](layer.lora_A[_NAME].weight, layer.lora_B[_NAME].weight)


def _orthogonal(down: torch.Tensor, up: torch.Tensor) -> None:
    """Fill A and B from orthogonal subspaces, so that neither is zero and their product is.

    This is PEFT's `orthogonal_init`, which rounds to the dtype of the base; rounded to bf16 the
    product is not zero, and a 4-bit base has no dtype to round to.

    Args:
        down: A, `[r, inputs]`; r is even.
        up: B, `[outputs, r]`.
    """
    r, inputs = down.shape
    q, _ = torch.linalg.qr(torch.randn(r, r))
    a = torch.randn(inputs, r // 2).mm(q[0::2]).T / 10.0
    b = torch.randn(r // 2, up.shape[0]).T.mm(q[1::2]) / 10.0
    down.copy_(a)
    up.copy_(b)


def _xavier_uniform(down: torch.Tensor, up: torch.Tensor) -> None:
    """Fill A as Glorot and Bengio (2010, AISTATS) initialize a layer, and B with zeros."""
    nn.init.xavier_uniform_(down)
    nn.init.zeros_(up)


STARTS: dict[str, Callable[[torch.Tensor, torch.Tensor], None]] = {
    "orthogonal": _orthogonal,
    "xavier_uniform": _xavier_uniform,
}
"""Functions that fill A and B in place, by the name of the start."""
