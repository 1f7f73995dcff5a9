"""Bytes of optimizer states, for each optimizer that a job can name."""

from __future__ import annotations

from collections.abc import Callable

_BLOCK = 256
"""Elements per scale in bitsandbytes' block-wise 8-bit states (arXiv:2110.02861)."""
_SMALL = 4096
"""Elements below which bitsandbytes keeps fp32 states (`min_8bit_size`)."""
_PAGED_FROM = 100_000
"""Elements from which bitsandbytes pages states (`Optimizer8bit.get_state_buffer`)."""


def state_bytes(optimizer: str, count: int, width: int) -> int:
    """Return the bytes that the optimizer states of one tensor take on the device.

    Args:
        optimizer: Name, as in `train.optimizer`.
        count: Number of elements.
        width: Columns of a matrix; 0 for a vector or a flattened shard.
    """
    return _STATES[optimizer](count, width)


def _adamw(count: int, width: int) -> int:
    return 8 * count


def _adamw_8bit(count: int, width: int) -> int:
    return 8 * count if count < _SMALL else 2 * (count + 4 * -(-count // _BLOCK))


def _paged(count: int, width: int) -> int:
    """Return 0 for large tensors: their states are in CUDA managed memory, which can be paged out.

    Those of smaller tensors, such as the matrices of a LoRA, stay on the device.
    """
    return _adamw_8bit(count, width) if count < _PAGED_FROM else 0


def _adafactor(count: int, width: int) -> int:
    """Return the bytes of a row and a column statistic per matrix (Adafactor, arXiv:1804.04235).

    The first moment is off, as it is by default.
    """
    return 4 * (width + count // width) if width else 4 * count


def _sgd(count: int, width: int) -> int:
    return 0


_STATES: dict[str, Callable[[int, int], int]] = {
    "adamw": _adamw,
    "adamw_8bit": _adamw_8bit,
    "paged_adamw_8bit": _paged,
    "adafactor": _adafactor,
    "sgd": _sgd,
}
