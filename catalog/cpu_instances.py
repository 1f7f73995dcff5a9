"""Catalog of instance types without accelerators, which processing jobs use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from catalog.instances import tables


@dataclass(frozen=True)
class CpuInstance:
    """Instance type of EC2 without an accelerator.

    Attributes:
        name: Name in EC2, without SageMaker's `ml.`.
        vcpus: Number of virtual cores.
        memory_gib: Memory.
    """

    name: str
    vcpus: int
    memory_gib: float


@cache
def cpu_instances() -> dict[str, CpuInstance]:
    """Return every instance type by its name without `ml.`, the smallest of a family first."""
    return {
        name: CpuInstance(name, row["vcpus"], row["memory_gib"])
        for name, row in tables()["cpu_instances"].items()
    }


def cpu_instance(name: str) -> CpuInstance | None:
    """Return an instance type by its name with or without `ml.`, None for an unknown one."""
    return cpu_instances().get(name.removeprefix("ml."))
