"""Health check of the image: versions, devices, NCCL and EFA, as JSON."""

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


def report(required: int | None = None) -> int:
    """Print the facts and return 0 if this container can train, else 1.

    Args:
        required: Minimum number of accelerators; None for any.
    """
    facts, faults = collect_facts()
    available = facts["devices"]["nvidia"] + facts["devices"]["neuron"]
    if required is not None and available < required:
        faults.append(f"{required} accelerators are required, {available} are available")
    sys.stdout.write(json.dumps({**facts, "faults": faults}, indent=1) + "\n")
    return 1 if faults else 0


def collect_facts() -> tuple[dict[str, Any], list[str]]:
    """Return facts about this container, and the faults among them."""
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
    """Query torch in a separate process, which a broken driver may crash."""
    queried = subprocess.run(
        [sys.executable, "-c", _QUERY_TORCH], capture_output=True, text=True, check=False
    )
    if queried.returncode != 0:
        tail = (queried.stderr.strip().splitlines() or ["no error message"])[-1]
        return {}, f"torch does not load: {tail}"
    facts: dict[str, Any] = json.loads(queried.stdout.splitlines()[-1])
    if expected and facts["devices"] < expected:
        return facts, f"torch sees {facts['devices']} of {expected} NVIDIA devices"
    return facts, ""


_QUERY_TORCH = """
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
    """Return the first line that a command prints; None if it is missing or fails."""
    if shutil.which(command) is None:
        return None
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    return lines[0] if lines and done.returncode == 0 else None
