"""Machine that a job is planned for: instances of the catalog, or this machine."""

from __future__ import annotations

import difflib
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from catalog.accelerators import by_driver_name
from catalog.instances import Accelerator, Instance, accelerators, instance, instances
from training.config import Job
from training.errors import JobError, Problem
from training.processes import num_accelerators, num_cores

THIS_MACHINE = "this machine"
_GIB = 2.0**30
_FP32_GFLOPS_PER_CORE = 60.0
"""fp32 throughput of one core in matrix products of the size of training, with AVX2 or better."""


@dataclass(frozen=True)
class Machine:
    """Instances of one type, or this machine.

    Attributes:
        instance: Type of each instance.
        count: Number of instances.
        processes: Processes per instance, one per device.
        rented: True for instances that cost money.
    """

    instance: Instance
    count: int
    processes: int
    rented: bool

    @property
    def world(self) -> int:
        """Number of devices."""
        return self.count * self.processes

    @property
    def device(self) -> Accelerator:
        """Device of each process."""
        return self.instance.accelerator

    @property
    def device_gib(self) -> float:
        """Memory of one device; on a CPU, the share of one process."""
        if self.device.kind == "cpu":
            return self.instance.memory_gib / self.processes
        return self.device.usable_gib

    @property
    def description(self) -> str:
        """Short description: count, type and devices."""
        if self.device.kind == "cpu":
            cores = f"{self.instance.vcpus} core{'s' * (self.instance.vcpus != 1)}"
            many = f"{self.processes} processes on " if self.processes > 1 else ""
            return f"{many}{THIS_MACHINE}, {cores}, {self.instance.memory_gib:.0f} GiB"
        name = self.instance.name if not self.rented else f"ml.{self.instance.name}"
        times = f"{self.count} × " if self.rented else ""
        return f"{times}{name}, {self.world} × {self.device.name}"


def machine_of(job: Job) -> Machine:
    """Return the machine that a job names, or this machine.

    Raises:
        JobError: The instance type is not in the catalog.
    """
    name = job.resources.instance
    if name is None:
        return this_machine(job.resources.processes)
    instance_type = instance(name)
    if instance_type is None:
        raise JobError(job.name, [unknown_instance(name, "resources.instance")])
    return Machine(instance_type, job.resources.count, instance_type.devices, rented=True)


def from_catalog(instance_type: Instance, count: int = 1) -> Machine:
    """Return `count` instances of a type of the catalog."""
    return Machine(instance_type, count, instance_type.devices, rented=True)


def this_machine(processes: int | None) -> Machine:
    """Return this machine, detected without loading a driver library."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    cores = num_cores()
    devices = num_accelerators()
    device = _accelerator() if devices else None
    if device is None:
        tflops = _FP32_GFLOPS_PER_CORE * cores / 1000
        device = Accelerator("CPU", "cpu", memory_gib, memory_gib, tflops, tflops, 20.0)
    count = devices if device.kind != "cpu" else processes or 1
    name = f"{THIS_MACHINE} ({platform.machine()})" if device.kind == "cpu" else THIS_MACHINE
    here = Instance(name, device, count, cores, memory_gib, 0, 0, _disk_gb())
    return Machine(here, 1, processes or count, rented=False)


def _accelerator() -> Accelerator | None:
    """Return the first device that the driver reports; None without a driver."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        name, memory_mib = done.stdout.splitlines()[0].rsplit(",", 1)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return _neuron()
    usable_gib = float(memory_mib) / 1024 * 0.985  # the driver reserves the rest
    if device := by_driver_name(name):
        return replace(device, usable_gib=usable_gib, memory_gib=float(memory_mib) / 1024)
    return Accelerator(name.strip(), "cuda", usable_gib, usable_gib, 70.0, 35.0, 600.0)


def _neuron() -> Accelerator | None:
    return accelerators()["Trainium2"] if list(Path("/dev").glob("neuron*")) else None


def _disk_gb() -> float:
    return shutil.disk_usage(".").free / 1e9


def unknown_instance(name: str, key: str) -> Problem:
    """Return the problem of an instance type that the catalogue lacks, with similar ones.

    Args:
        name: The type.
        key: Key or option that names it.
    """
    known = [f"ml.{known}" for known in instances()]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
    return Problem(
        key,
        "is not in the catalogue of accelerated instances",
        name,
        f"Did you mean {' or '.join(near[:3])}? All are in catalog/instances.yaml",
    )
