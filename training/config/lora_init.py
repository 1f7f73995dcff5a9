"""Names of the starts of a LoRA (PEFT's `init_lora_weights`), and those not supported."""

from __future__ import annotations

from typing import Any, Literal, get_args

InitName = Literal["zero", "gaussian", "xavier_uniform", "orthogonal", "pissa", "olora"]
DECOMPOSED = ("pissa", "olora")
"""Starts taken from the weights, which PEFT subtracts from the base."""

UNSUPPORTED = {
    "eva": "is computed from the activations of training rows, which are not collected here",
    "corda": "is computed from the activations of training rows, which are not collected here",
    "lora_ga": "is computed from the gradients of training rows, which are not collected here",
    "loftq": "changes the quantized base, which would then have to be kept with the adapter",
    "mica": "trains A alone, with B frozen, which is not implemented here",
}
"""Starts that PEFT has and a job does not, with the reason."""


def refuse_unsupported(value: Any) -> Any:
    """Return the name of a start, unless it is one of PEFT's that a job does not have.

    Raises:
        ValueError: It is one of those.
    """
    if isinstance(value, str) and (reason := UNSUPPORTED.get(value.lower())):
        raise ValueError(f"{value!r} {reason}. Choose from {', '.join(get_args(InitName))}")
    if isinstance(value, str) and value.startswith("pissa_niter_"):
        raise ValueError(
            f"{value!r} has no setting here: write pissa, which chooses the SVD itself"
        )
    return value
