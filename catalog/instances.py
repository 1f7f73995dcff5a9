"""Catalog of instance types: accelerators, memory, cores, network and disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

# Instance families without accelerators mark local disks with a `d` (c5d, m6id); so does g4dn.
_LOCAL_DISK_FAMILY = re.compile(r"^(ml\.)?[a-z]+\d[a-z]*d")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Accelerator:
    """Accelerator that one training process drives.

    Attributes:
        name: Name in the catalog, such as `A100-40`.
        kind: `cuda`, `neuron`, or `cpu` for the local machine.
        memory_gib: Memory of the device.
        usable_gib: Part of the memory that a program can allocate.
        bf16_tflops: Dense peak of 16-bit arithmetic.
        fp32_tflops: Peak of 32-bit arithmetic.
        bandwidth_gb_s: Memory bandwidth, in 10^9 bytes per second.
        names: Names that its driver may report.
        link_gb_s: One-way bandwidth to the machine's other devices; 0 if they use PCIe.
        per_chip: Number of logical devices per chip (logical NeuronCores).
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
    """Instance type of EC2.

    Attributes:
        name: Name in EC2, without SageMaker's `ml.`.
        accelerator: Its accelerator.
        devices: Number of accelerators, as training processes count them.
        vcpus: Number of virtual cores.
        memory_gib: Host memory.
        efa: Maximum number of Elastic Fabric Adapter interfaces.
        network_gbps: Network bandwidth, in 10^9 bits per second.
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
        """Number of chips, as EC2 counts accelerators."""
        return self.devices // self.accelerator.per_chip


@cache
def accelerators() -> dict[str, Accelerator]:
    """Return every accelerator by its name in the catalog."""
    return {
        name: Accelerator(name=name, **{k: v for k, v in row.items() if k in _DEVICE_FIELDS})
        for name, row in tables()["accelerators"].items()
    }


@cache
def instances() -> dict[str, Instance]:
    """Return every instance type by its name without `ml.`."""
    return {
        name: Instance(
            name=name,
            accelerator=accelerators()[row["accelerator"]],
            **{k: v for k, v in row.items() if k in _INSTANCE_FIELDS},
        )
        for name, row in tables()["instances"].items()
    }


def instance(name: str) -> Instance | None:
    """Return the instance type `name`, with or without `ml.`; None if the catalog lacks it."""
    return instances().get(name.removeprefix("ml."))


def has_local_disk(name: str) -> bool:
    """Return whether an instance type has local NVMe disks, with or without `ml.`.

    SageMaker stores data, checkpoints and models there and provisions no volume; the hardware
    encrypts them, so a volume key is rejected.
    https://docs.aws.amazon.com/sagemaker/latest/dg/model-train-storage-tips-considerations.html
    """
    described = instance(name)
    return described.nvme_gb > 0 if described else bool(_LOCAL_DISK_FAMILY.match(name))


@cache
def tables() -> Any:
    """Return the content of `instances.yaml`, sources included."""
    return yaml.load(Path(__file__).with_name("instances.yaml").read_text("utf-8"), Loader=_LOADER)


_DEVICE_FIELDS = frozenset(Accelerator.__dataclass_fields__) - {"name"}
_INSTANCE_FIELDS = frozenset(Instance.__dataclass_fields__) - {"name", "accelerator"}
