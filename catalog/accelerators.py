"""Peak rates of accelerators, for the share of them that a run reaches (MFU)."""

from __future__ import annotations

from typing import Literal

from catalog.instances import Accelerator, accelerators

Precision = Literal["fp32", "fp16", "bf16"]


def peak_flops(device_name: str, precision: str) -> float:
    """Return a device's peak in FLOP/s, dense, or 0 where the catalogue has no figure for it.

    Args:
        device_name: As the driver reports it, such as `NVIDIA A100-SXM4-40GB`.
        precision: `fp32`, `fp16` or `bf16`.
    """
    known = by_driver_name(device_name)
    if known is None:
        return 0.0
    return (known.fp32_tflops if precision == "fp32" else known.bf16_tflops) * 1e12


def by_driver_name(device_name: str) -> Accelerator | None:
    """Return what a device is, by the name its driver reports; the longest match counts."""
    names = [(name, device) for device in accelerators().values() for name in device.names]
    names.sort(key=lambda pair: -len(pair[0]))
    return next((device for name, device in names if name in device_name), None)
