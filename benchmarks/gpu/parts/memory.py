"""Planned memory against what PyTorch's allocator counts and reserves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.case import Case, CaseFailedError, Measured
from benchmarks.gpu.memory_cases import MemorySpec, specs
from benchmarks.gpu.parts.packing import require_attention
from benchmarks.gpu.scale import Scale

TOLERANCE = 0.05
SOURCE = "README.md: the plan is within 5 % of the allocator"
_GIB = 2**30
_ON_CPU = ("1B, full, bf16, checkpointing, 1 × 1,024 tokens", "1B, lora, bf16, 1 × 2,048 tokens")
"""Configurations that run on a CPU; benchmarks/memory has 68 others."""


def cases(scale: Scale, group: str) -> Iterator[Case]:
    """Yield the configurations of a group, each of which trains for two steps."""
    for spec in specs(group):
        if scale.on_gpu or spec.name in _ON_CPU:
            yield Case(spec.name, partial(_measure, scale, spec), is_slow=True)


def _measure(scale: Scale, spec: MemorySpec, folder: Path) -> Measured:
    from benchmarks.memory.measure import measure
    from benchmarks.memory.predict import predict_memory
    from planning.peak_memory import WORKSPACE_GIB

    require_attention(scale, spec.attention)
    scale.model(spec.size)
    assert scale.rows
    case = spec.case(scale)
    planned = predict_memory(case, scale.home)
    plan = planned["plan"]
    assert plan is not None
    measured: dict[str, Any] = {
        "plan_gib": plan / _GIB,
        "workspace_gib": WORKSPACE_GIB[scale.device],
        "rule_of_thumb_gib": (planned["rule"] or 0) / _GIB,
        "tolerance": TOLERANCE,
        "source": SOURCE,
    }
    peaks = measure(case, scale.home, folder / "run")
    measured["peak_gib"] = peaks["peak"] / _GIB
    for name in ("reserved", "outside"):
        if name in peaks:
            measured[f"{name}_gib"] = peaks[name] / _GIB
    error = plan / peaks["peak"] - 1
    measured["error"] = error
    if abs(error) > TOLERANCE:
        raise CaseFailedError(
            f"the plan is {plan / _GIB:.2f} GiB and the peak {peaks['peak'] / _GIB:.2f} GiB "
            f"({error:+.1%})",
            measured,
        )
    return measured
