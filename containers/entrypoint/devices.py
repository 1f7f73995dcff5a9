"""The accelerators and network adapters of this machine, seen without loading a driver."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from containers.entrypoint.errors import StartError
from containers.entrypoint.node_identity import NodeIdentity

_KINDS = {"nvidia": re.compile(r"ml\.(p|g)\d"), "neuron": re.compile(r"ml\.(trn|inf)\d")}
_IMAGES = {"nvidia": "gpu", "neuron": "neuron"}


def count(kind: str, devices: Path = Path("/dev")) -> int:
    """Return how many devices of a kind there are."""
    return len([p for p in devices.glob(f"{kind}[0-9]*") if p.name.removeprefix(kind).isdigit()])


def count_all(environment: Mapping[str, str], devices: Path = Path("/dev")) -> int:
    """Return how many accelerators training may use."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in ("", "-1")])
    return count("nvidia", devices) or count("neuron", devices)


def check(
    place: NodeIdentity, environment: Mapping[str, str], devices: Path = Path("/dev")
) -> None:
    """Refuse to train on a CPU what was sent to a machine with accelerators.

    `TEMPER_CPU=1` says that this is meant, as in a rehearsal.

    Raises:
        StartError: The machine should have devices, and none can be seen.
    """
    for kind, types in _KINDS.items():
        if types.match(place.instance) and not count(kind, devices):
            if environment.get("TEMPER_CPU") == "1":
                return
            raise StartError(
                f"{place.name} is an {place.instance}, but no {kind} device can be seen in "
                f"{devices}. Use the {_IMAGES[kind]} image, and a container runtime that passes "
                f"devices on (TEMPER_CPU=1 trains on the CPU all the same)"
            )


def network_settings(
    place: NodeIdentity, environment: Mapping[str, str], system: Path = Path("/sys/class")
) -> dict[str, str]:
    """Return the variables that NCCL, gloo and libfabric need on this machine.

    What the environment already says stays as it is. Without EFA nothing is said of it: libfabric
    told to use what is not there makes NCCL fall back with a warning, or fail.

    Args:
        place: Names the interface between the nodes.
        environment: Of this process.
        system: Where the kernel lists its devices.
    """
    found: dict[str, str] = {}
    if place.interface and (system / "net" / place.interface).exists():
        found |= {"NCCL_SOCKET_IFNAME": place.interface, "GLOO_SOCKET_IFNAME": place.interface}
    adapters = system / "infiniband"
    if adapters.is_dir() and any(p.name.startswith(("efa", "rdmap")) for p in adapters.iterdir()):
        # https://github.com/aws/aws-ofi-nccl and libfabric's fi_efa(7): on a fork (a tokenizer, a
        # data loader) huge pages would be copied, and run out.
        found |= {"FI_PROVIDER": "efa", "FI_EFA_USE_HUGE_PAGE": "0", "FI_EFA_FORK_SAFE": "1"}
    return {name: value for name, value in found.items() if name not in environment}
