"""What this container can do: versions, devices, NCCL, EFA, as JSON; the image's health check."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from containers.entrypoint import devices

_PACKAGES = ("temper", "torch", "transformers", "trl", "peft", "accelerate", "deepspeed")
_INFINIBAND = Path("/sys/class/infiniband")


def report(wanted: int | None = None) -> int:
    """Print what is here and return 0 when it can train.

    Args:
        wanted: Accelerators that must be there.
    """
    facts, faults = look()
    found = facts["devices"]["nvidia"] + facts["devices"]["neuron"]
    if wanted is not None and found < wanted:
        faults.append(f"{wanted} accelerators are wanted, {found} are here")
    sys.stdout.write(json.dumps({**facts, "faults": faults}, indent=1) + "\n")
    return 1 if faults else 0


def look() -> tuple[dict[str, Any], list[str]]:
    """Return the facts, and what is wrong with them."""
    faults: list[str] = []
    facts: dict[str, Any] = {
        "commit": os.environ.get("TEMPER_COMMIT", "unknown"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "cores": len(os.sched_getaffinity(0)),
        "devices": {kind: devices.count(kind) for kind in ("nvidia", "neuron")},
        "efa": sorted(path.name for path in _INFINIBAND.iterdir()) if _INFINIBAND.is_dir() else [],
        "libfabric": _first_line("fi_info", "--version"),
        "driver": _first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
    }
    for name in ("temper", "torch", "transformers"):
        if facts["packages"][name] is None:
            faults.append(f"{name} is not installed")
    if facts["packages"]["torch"]:
        facts["torch"], fault = _torch(expected=facts["devices"]["nvidia"])
        faults += [fault] if fault else []
    return facts, faults


def _torch(expected: int) -> tuple[dict[str, Any], str]:
    """Ask torch, in a process of its own: a broken driver may end it."""
    asked = subprocess.run(
        [sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, check=False
    )
    if asked.returncode != 0:
        tail = (asked.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return {}, f"torch does not load: {tail}"
    found: dict[str, Any] = json.loads(asked.stdout.splitlines()[-1])
    if expected and found["devices"] < expected:
        return found, f"torch sees {found['devices']} of {expected} NVIDIA devices"
    return found, ""


_ASK_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "cuda": torch.version.cuda,
    "devices": torch.cuda.device_count() if cuda else 0,
    "names": sorted({torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}),
    "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else None,
    "gloo": torch.distributed.is_gloo_available(),
}))
"""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _first_line(command: str, *arguments: str) -> str | None:
    """Return the first line a command prints; None where it is not installed or fails."""
    if shutil.which(command) is None:
        return None
    asked = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    lines = asked.stdout.strip().splitlines()
    return lines[0] if lines and asked.returncode == 0 else None
