"""Double precision, for sums over many numbers."""

from __future__ import annotations

import torch


def in_double(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in fp64; on the host if its device is a Trainium, which has no fp64.

    https://awsdocs-neuron.readthedocs-hosted.com/en/latest/about-neuron/arch/neuron-features/
    data-types.html
    """
    return (tensor.cpu() if tensor.device.type == "neuron" else tensor).double()
