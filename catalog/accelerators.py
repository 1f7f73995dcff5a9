"""Peak throughput of accelerators, for the model FLOPs utilization (MFU) of a run."""

from __future__ import annotations

from typing import Literal

from catalog.instances import Accelerator, accelerators

Precision = Literal["fp32", "fp16", "bf16"]


def peak_flops(device_name: str, precision: str) -> float:
    """Return the dense peak of a device in FLOP/s, or 0 if the catalog lacks it.

    Args:
        device_name: Name that the driver reports, such as `NVIDIA A100-SXM4-40GB`.
        precision: `fp32`, `fp16` or `bf16`.
    """
    device = by_driver_name(device_name)
    if device is None:
        return 0.0
    return (device.fp32_tflops if precision == "fp32" else device.bf16_tflops) * 1e12


def by_driver_name(device_name: str) -> Accelerator | None:
    """Return the accelerator whose longest driver name the reported one contains, or None."""
    names = [(name, device) for device in accelerators().values() for name in device.names]
    names.sort(key=lambda pair: -len(pair[0]))
    return next((device for name, device in names if name in device_name), None)
