"""Peak rates of accelerators, for the share of them that a run reaches (MFU).

Dense rates, without sparsity, from NVIDIA's data sheets: A100 (2021-06), A10 and A10G, L4, L40S,
H100 SXM and H200 (2023–2024). Read 2026-11.
"""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "fp16", "bf16"]

_TERA = 1e12

# Name as the driver reports it -> (16-bit tensor cores, fp32 without TF32), in TFLOP/s.
_PEAK_TFLOPS: dict[str, tuple[float, float]] = {
    "A100": (312.0, 19.5),
    "A10G": (70.0, 35.0),
    "L40S": (362.0, 91.6),
    "L4": (121.0, 30.3),
    "H100": (989.0, 67.0),
    "H200": (989.0, 67.0),
}


def peak_flops(device_name: str, precision: str) -> float:
    """Return a device's peak in FLOP/s, or 0 where the catalogue has no figure for it.

    Args:
        device_name: As the driver reports it, such as `NVIDIA A100-SXM4-40GB`.
        precision: `fp32`, `fp16` or `bf16`.
    """
    for name, (half, single) in sorted(_PEAK_TFLOPS.items(), key=lambda item: -len(item[0])):
        if name in device_name:
            return (single if precision == "fp32" else half) * _TERA
    return 0.0
