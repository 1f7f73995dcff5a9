"""What an optimizer remembers of each weight."""

from __future__ import annotations

from collections.abc import Callable

_BLOCK = 256
"""Elements that share a scale in bitsandbytes' 8-bit states."""
_SMALL = 4096
"""Tensors below this keep fp32 states there (`min_8bit_size`)."""


def state_bytes(optimizer: str, count: int, width: int) -> int:
    """Bytes of the states of one tensor on the device.

    Args:
        optimizer: As the job names it.
        count: Elements.
        width: Of a matrix's rows; 0 for what is flat.
    """
    return _STATES[optimizer](count, width)


def _adamw(count: int, width: int) -> int:
    return 8 * count


def _adamw_8bit(count: int, width: int) -> int:
    return 8 * count if count < _SMALL else 2 * (count + 4 * -(-count // _BLOCK))


def _paged(count: int, width: int) -> int:
    """In memory that the driver moves between host and device as it likes."""
    return 8 * count if count < _SMALL else 0


def _adafactor(count: int, width: int) -> int:
    """A row and a column in place of a matrix; no first moment (Shazeer and Stern 2018)."""
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
