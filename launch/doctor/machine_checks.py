"""Checks of this machine: packages, drivers, communication between processes, disk."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from launch.doctor.checks import Check, CheckFailed

_PINNED = ("torch", "transformers", "trl", "peft", "accelerate", "deepspeed")
_DEFAULT_NEED_GIB = 5.0
"""Disk for a small job's model, checkpoints and cache, if no job is given."""
_TIMEOUT_S = 120


class MachineChecks:
    """Checks of this machine.

    Args:
        needs_gib: Disk that the job's plan needs, in GiB; 0 without a job.
        runs: Folder of all run folders.
        constraints: File with the tested versions of the packages.
    """

    def __init__(
        self, needs_gib: float = 0.0, runs: Path = Path("runs"), constraints: Path | None = None
    ):
        self.needs_gib, self.runs = needs_gib, runs
        self.constraints = constraints or Path("constraints.txt")

    def checks(self) -> list[Check]:
        """Return the checks in the order in which they are run."""
        return [
            Check("packages", self.packages),
            Check("devices", self.devices, needs="packages"),
            Check("network", self.network),
            Check("all-reduce", self.all_reduce, needs="packages"),
            Check("disk", self.disk),
        ]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Report of the containers' health check, run on this machine."""
        health = subprocess.run(
            [sys.executable, "-m", "containers.entrypoint", "health"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        facts: dict[str, Any] = json.loads(health.stdout)
        return facts

    def packages(self) -> str:
        """Compare the installed versions with the tested ones.

        Raises:
            CheckFailed: A package is missing, or has another version.
        """
        tested = _pins(self.constraints)
        missing, different, installed = [], [], []
        for name in _PINNED:
            try:
                found = version(name)
            except PackageNotFoundError:
                missing.append(name)
                continue
            installed.append(f"{name} {found}")
            if name in tested and found.partition("+")[0] != tested[name]:
                different.append(f"{name} is {found}, tested is {tested[name]}")
        if missing:
            raise CheckFailed(
                f"not installed: {', '.join(missing)}", "temper plan jobs/quickstart.yaml"
            )
        if different:
            raise CheckFailed(
                "; ".join(different), "rm .venv/.train && make plan JOB=jobs/quickstart.yaml"
            )
        return f"Python {platform.python_version()}, {', '.join(installed)}"

    def devices(self) -> str:
        """Check that torch can use the accelerators of this machine.

        Raises:
            CheckFailed: torch does not load, or sees fewer devices than the kernel.
        """
        if faults := [fault for fault in self.facts["faults"] if "torch" in fault]:
            raise CheckFailed("; ".join(faults), "nvidia-smi; then install torch for this driver")
        devices, torch = self.facts["devices"], self.facts.get("torch", {})
        if devices["nvidia"]:
            return (
                f"{devices['nvidia']} × {', '.join(torch['names'])}, driver "
                f"{self.facts['driver']}, CUDA {torch['cuda']}, NCCL {torch['nccl']}"
            )
        if devices["neuron"]:
            return f"{devices['neuron']} Neuron devices"
        return f"no accelerator; {self.facts['cores']} cores"

    def network(self) -> str:
        """Check that the library for the machine's EFA adapters is installed.

        Raises:
            CheckFailed: The machine has EFA adapters and no libfabric.
        """
        if not self.facts["efa"]:
            return "no EFA adapter; nodes communicate over TCP"
        if self.facts["libfabric"] is None:
            raise CheckFailed(
                f"{len(self.facts['efa'])} EFA adapters and no libfabric",
                "use our image (make image KIND=gpu), or install the EFA driver",
            )
        return f"{len(self.facts['efa'])} EFA adapters, libfabric {self.facts['libfabric']}"

    def all_reduce(self) -> str:
        """Run an all-reduce between two processes: over NCCL with two GPUs, else over gloo.

        Raises:
            CheckFailed: The processes cannot connect, or the result is wrong.
        """
        backend = "nccl" if self.facts["devices"]["nvidia"] >= 2 else "gloo"
        with tempfile.TemporaryDirectory() as scratch:
            rendezvous = Path(scratch) / "rendezvous"
            processes = [
                subprocess.Popen(
                    [sys.executable, "-c", _ALL_REDUCE, backend, str(rendezvous), str(rank)],
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for rank in range(2)
            ]
            try:
                outputs = [process.communicate(timeout=_TIMEOUT_S) for process in processes]
            except subprocess.TimeoutExpired:
                raise CheckFailed(
                    f"two processes did not connect over {backend} within {_TIMEOUT_S} s",
                    "a firewall on the loopback? try: GLOO_SOCKET_IFNAME=lo temper doctor",
                ) from None
            finally:
                for process in processes:
                    process.kill()
        for process, (out, err) in zip(processes, outputs, strict=True):
            if process.returncode or out.split()[-1:] != ["3.0"]:
                last = (err.strip().splitlines() or ["no error message"])[-1]
                raise CheckFailed(
                    f"{backend}: {last}", f"{backend.upper()}_DEBUG=INFO temper doctor"
                )
        return f"two processes over {backend}"

    def disk(self) -> str:
        """Check that the disk has enough free space for the job.

        Raises:
            CheckFailed: It has less.
        """
        home = next(p for p in (self.runs, *self.runs.absolute().parents) if p.exists())
        free_gib = shutil.disk_usage(home).free / 2**30
        needed_gib = self.needs_gib or _DEFAULT_NEED_GIB
        if free_gib < needed_gib:
            raise CheckFailed(
                f"{free_gib:.1f} GiB free at {home.absolute()}, {needed_gib:.1f} GiB needed",
                "temper status, then temper delete RUN for runs that are no longer needed",
            )
        return f"{free_gib:.0f} GiB free, {needed_gib:.1f} GiB needed"


# Ranks 0 and 1 contribute 1 and 2, so every rank prints 3.0.
_ALL_REDUCE = """
import sys, torch, torch.distributed as dist
backend, rendezvous, rank = sys.argv[1], sys.argv[2], int(sys.argv[3])
dist.init_process_group(backend, init_method=f"file://{rendezvous}", rank=rank, world_size=2)
value = torch.tensor([rank + 1.0], device=f"cuda:{rank}" if backend == "nccl" else "cpu")
dist.all_reduce(value)
print(value.item())
dist.destroy_process_group()
"""


def _pins(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(";")[0].strip().split("==") for line in lines if "==" in line)
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
