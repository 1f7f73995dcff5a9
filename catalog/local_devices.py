"""Accelerators of this machine, as training processes count them, without loading a driver."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

NEURON_GRAPHS = "neuron-graphs"
"""Folder of compiled graphs in a run folder: stored and restored with the run, not downloaded."""
_CORES_PER_CHIP = 8
"""Physical NeuronCores of a Trainium 2 or 3 chip."""


def local_kind(environment: Mapping[str, str], devices: Path = Path("/dev")) -> str:
    """Return `cuda`, `neuron` or `cpu`: the kind of device that training on this machine uses."""
    if _visible_gpus(environment) == 0:
        return "cpu"
    if count_files("nvidia", devices):
        return "cuda"
    return "neuron" if count_files("neuron", devices) else "cpu"


def count_local(environment: Mapping[str, str], devices: Path = Path("/dev")) -> int:
    """Return the number of training processes that the accelerators of this machine have room for.

    Args:
        environment: Environment variables, which may hide some accelerators.
        devices: Folder of the device files.
    """
    visible = _visible_gpus(environment)
    if visible is not None:
        return visible
    return count_files("nvidia", devices) or _neuron_cores(environment, devices)


def count_files(kind: str, devices: Path = Path("/dev")) -> int:
    """Return the number of device files of a kind: GPUs (`nvidia`) or Neuron chips (`neuron`)."""
    return len([p for p in devices.glob(f"{kind}[0-9]*") if p.name.removeprefix(kind).isdigit()])


def _visible_gpus(environment: Mapping[str, str]) -> int | None:
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return None
    return len([part for part in visible.split(",") if part.strip() not in ("", "-1")])


def _neuron_cores(environment: Mapping[str, str], devices: Path) -> int:
    """Return the number of logical NeuronCores, each of which one process drives.

    A file in /dev is a chip. Two physical cores form a logical one, unless the runtime is told
    otherwise: https://awsdocs-neuron.readthedocs-hosted.com/en/latest/about-neuron/arch/
    neuron-features/logical-neuroncore-config.html
    """
    if visible := environment.get("NEURON_RT_VISIBLE_CORES"):
        return sum(_length(part) for part in visible.split(",") if part.strip())
    if number := environment.get("NEURON_RT_NUM_CORES"):
        return int(number)
    per_logical = int(environment.get("NEURON_LOGICAL_NC_CONFIG") or 2)
    return count_files("neuron", devices) * _CORES_PER_CHIP // per_logical


def _length(part: str) -> int:
    """Return the number of cores in `3` or `0-15`."""
    first, _, last = part.partition("-")
    return int(last or first) - int(first) + 1
