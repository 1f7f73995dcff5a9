"""Time of generating text."""

from __future__ import annotations

from catalog.instances import Accelerator
from planning.document import Range
from planning.model_shape import ModelShape

_TOKEN_S_PER_LAYER = Range(0.0004, 0.0015)
"""Overhead of `generate` per token and layer for a small model: Python and kernel launches. An
estimate."""
SHARE_OF_ANSWER = 0.3
"""Lower bound of the length of answers as a share of the maximum, since most end with EOS. An
estimate."""


def token_s(
    shape: ModelShape, device: Accelerator, rows: float, *, weight_bytes: float, peak_flops: float
) -> Range:
    """Return the seconds of decoding one token of each row; it reads every weight once.

    Args:
        shape: Shape of the model.
        device: Device that decodes.
        rows: Rows that are decoded together.
        weight_bytes: Bytes of a weight.
        peak_flops: FLOPs per second of the device.
    """
    reading_s = shape.parameters * weight_bytes / (device.bandwidth_gb_s * 1e9)
    each = max(reading_s, 2.0 * shape.active * rows / peak_flops)
    low, high = _TOKEN_S_PER_LAYER
    return Range(each + shape.layers * low, 3 * each + shape.layers * high)
