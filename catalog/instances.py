"""What an instance type is: its accelerators, memory, cores, network and disk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Accelerator:
    """One device: what a process drives.

    Attributes:
        name: Ours, such as `A100-40`.
        names: What its driver may call it.
        kind: `cuda`, `neuron`, or `cpu` for the machine in front of you.
        memory_gib: What it has.
        usable_gib: What a program can have of it.
        bf16_tflops: Peak of 16-bit arithmetic, dense.
        fp32_tflops: Peak of 32-bit arithmetic.
        bandwidth_gb_s: Of its memory, in 10^9 bytes per second.
        link_gb_s: To the other devices of the machine, in one direction; 0 where that is PCIe.
        per_chip: How many of them share a chip (logical NeuronCores).
    """

    name: str
    kind: Literal["cuda", "neuron", "cpu"]
    memory_gib: float
    usable_gib: float
    bf16_tflops: float
    fp32_tflops: float
    bandwidth_gb_s: float
    names: tuple[str, ...] = ()
    link_gb_s: float = 0.0
    per_chip: int = 1


@dataclass(frozen=True)
class Instance:
    """An instance type.

    Attributes:
        name: As EC2 names it, without SageMaker's `ml.`.
        accelerator: What it carries.
        devices: How many.
        vcpus: Virtual cores.
        memory_gib: Host memory.
        efa: Interfaces for the Elastic Fabric Adapter.
        network_gbps: Network, in 10^9 bits per second.
        nvme_gb: Local disk, in 10^9 bytes.
    """

    name: str
    accelerator: Accelerator
    devices: int
    vcpus: int
    memory_gib: float
    efa: int
    network_gbps: float
    nvme_gb: float

    @property
    def chips(self) -> int:
        """Chips, as EC2 counts them."""
        return self.devices // self.accelerator.per_chip


@cache
def accelerators() -> dict[str, Accelerator]:
    """Every accelerator by our name for it."""
    return {
        name: Accelerator(name=name, **{k: v for k, v in row.items() if k in _DEVICE_FIELDS})
        for name, row in tables()["accelerators"].items()
    }


@cache
def instances() -> dict[str, Instance]:
    """Every instance type by its name without `ml.`."""
    return {
        name: Instance(
            name=name,
            accelerator=accelerators()[row["accelerator"]],
            **{k: v for k, v in row.items() if k in _INSTANCE_FIELDS},
        )
        for name, row in tables()["instances"].items()
    }


def instance(name: str) -> Instance | None:
    """The instance type `name`, with or without `ml.`; None where the catalogue has no such row."""
    return instances().get(name.removeprefix("ml."))


@cache
def tables() -> Any:
    """The file as it stands, sources included."""
    return yaml.load(Path(__file__).with_name("instances.yaml").read_text("utf-8"), Loader=_LOADER)


_DEVICE_FIELDS = frozenset(Accelerator.__dataclass_fields__) - {"name"}
_INSTANCE_FIELDS = frozenset(Instance.__dataclass_fields__) - {"name", "accelerator"}
