"""What this machine must have: packages, drivers, processes that hear each other, room."""

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
_ROOM_GIB = 5.0
"""For a small job's model, checkpoints and cache, where no job says what it needs."""
_TIMEOUT_S = 120


class MachineChecks:
    """This machine.

    Args:
        needs_gib: Disk that the job's plan asks for; 0 without a job.
        runs: Where run folders go.
        constraints: The file with the versions that everything was tested with.
    """

    def __init__(
        self, needs_gib: float = 0.0, runs: Path = Path("runs"), constraints: Path | None = None
    ):
        self.needs_gib, self.runs = needs_gib, runs
        self.constraints = constraints or Path("constraints.txt")

    def checks(self) -> list[Check]:
        """Return what is looked at, in order."""
        return [
            Check("packages", self.packages),
            Check("devices", self.devices, needs="packages"),
            Check("network", self.network),
            Check("all-reduce", self.all_reduce, needs="packages"),
            Check("disk", self.disk),
        ]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the containers' own health check sees here."""
        asked = subprocess.run(
            [sys.executable, "-m", "containers.entrypoint", "health"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        found: dict[str, Any] = json.loads(asked.stdout)
        return found

    def packages(self) -> str:
        """Compare what is installed with what was tested."""
        wanted = _pins(self.constraints)
        missing, others, seen = [], [], []
        for name in _PINNED:
            try:
                mine = version(name)
            except PackageNotFoundError:
                missing.append(name)
                continue
            seen.append(f"{name} {mine}")
            if name in wanted and mine.partition("+")[0] != wanted[name]:
                others.append(f"{name} is {mine}, tested is {wanted[name]}")
        if missing:
            raise CheckFailed(
                f"not installed: {', '.join(missing)}", "make plan JOB=jobs/quickstart.yaml"
            )
        if others:
            raise CheckFailed(
                "; ".join(others), "rm .venv/.train && make train JOB=jobs/quickstart.yaml"
            )
        return f"Python {platform.python_version()}, {', '.join(seen)}"

    def devices(self) -> str:
        """See whether torch can use the accelerators that are here."""
        if faults := [fault for fault in self.facts["faults"] if "torch" in fault]:
            raise CheckFailed("; ".join(faults), "nvidia-smi; then install torch for this driver")
        found, torch = self.facts["devices"], self.facts.get("torch", {})
        if found["nvidia"]:
            return (
                f"{found['nvidia']} × {', '.join(torch['names'])}, driver {self.facts['driver']}, "
                f"CUDA {torch['cuda']}, NCCL {torch['nccl']}"
            )
        if found["neuron"]:
            return f"{found['neuron']} Neuron devices"
        return f"no accelerator; {self.facts['cores']} cores"

    def network(self) -> str:
        """See whether adapters that are here have the library that drives them."""
        if not self.facts["efa"]:
            return "no EFA adapter; nodes would talk over TCP"
        if self.facts["libfabric"] is None:
            raise CheckFailed(
                f"{len(self.facts['efa'])} EFA adapters and no libfabric",
                "use our image (make image KIND=gpu), or install the EFA driver",
            )
        return f"{len(self.facts['efa'])} EFA adapters, libfabric {self.facts['libfabric']}"

    def all_reduce(self) -> str:
        """Let two processes add their numbers, over NCCL where there are two devices."""
        backend = "nccl" if self.facts["devices"]["nvidia"] >= 2 else "gloo"
        with tempfile.TemporaryDirectory() as scratch:
            meeting = Path(scratch) / "meeting"
            both = [
                subprocess.Popen(
                    [sys.executable, "-c", _ADD_UP, backend, str(meeting), str(rank)],
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for rank in range(2)
            ]
            try:
                said = [process.communicate(timeout=_TIMEOUT_S) for process in both]
            except subprocess.TimeoutExpired:
                raise CheckFailed(
                    f"two processes did not meet over {backend} within {_TIMEOUT_S} s",
                    "a firewall on the loopback? try: GLOO_SOCKET_IFNAME=lo make doctor",
                ) from None
            finally:
                for process in both:
                    process.kill()
        for process, (out, err) in zip(both, said, strict=True):
            if process.returncode or out.split()[-1:] != ["3.0"]:
                last = (err.strip().splitlines() or ["it said nothing"])[-1]
                raise CheckFailed(f"{backend}: {last}", f"{backend.upper()}_DEBUG=INFO make doctor")
        return f"two processes over {backend}"

    def disk(self) -> str:
        """See whether there is room for the job."""
        home = next(p for p in (self.runs, *self.runs.absolute().parents) if p.exists())
        free_gib = shutil.disk_usage(home).free / 2**30
        needed = self.needs_gib or _ROOM_GIB
        if free_gib < needed:
            raise CheckFailed(
                f"{free_gib:.1f} GiB free at {home.absolute()}, {needed:.1f} GiB needed",
                "make status; make delete RUN=… of what is no longer wanted",
            )
        return f"{free_gib:.0f} GiB free, {needed:.1f} GiB needed"


_ADD_UP = """
import sys, torch, torch.distributed as dist
backend, meeting, rank = sys.argv[1], sys.argv[2], int(sys.argv[3])
dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=2)
mine = torch.tensor([rank + 1.0], device=f"cuda:{rank}" if backend == "nccl" else "cpu")
dist.all_reduce(mine)
print(mine.item())
dist.destroy_process_group()
"""


def _pins(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(";")[0].strip().split("==") for line in lines if "==" in line)
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
