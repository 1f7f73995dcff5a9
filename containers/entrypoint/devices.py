"""Accelerators and network adapters of this machine, detected without loading a driver."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from catalog.local_devices import NEURON_GRAPHS, count_files, count_local, local_kind
from containers.entrypoint.errors import StartError
from containers.entrypoint.node_identity import NodeIdentity

_INSTANCE_TYPES = {"nvidia": re.compile(r"ml\.(p|g)\d"), "neuron": re.compile(r"ml\.(trn|inf)\d")}
_IMAGES = {"nvidia": "gpu", "neuron": "neuron"}


def count(kind: str, devices: Path = Path("/dev")) -> int:
    """Return the number of devices of a kind (`nvidia` or `neuron`)."""
    return count_files(kind, devices)


def count_all(environment: Mapping[str, str], devices: Path = Path("/dev")) -> int:
    """Return the number of accelerators that training may use, one process each."""
    return count_local(environment, devices)


def require_devices(
    identity: NodeIdentity, environment: Mapping[str, str], devices: Path = Path("/dev")
) -> None:
    """Raise if an instance type with accelerators shows none, rather than train on the CPU.

    Args:
        identity: This node, with its instance type.
        environment: Environment variables; `TEMPER_CPU=1` allows the CPU, as in an emulation.
        devices: Folder of the device files.

    Raises:
        StartError: The instance type has accelerators, and none is visible.
    """
    for kind, types in _INSTANCE_TYPES.items():
        if types.match(identity.instance) and not count(kind, devices):
            if environment.get("TEMPER_CPU") == "1":
                return
            raise StartError(
                f"{identity.name} is an {identity.instance}, but no {kind} device can be seen in "
                f"{devices}. Use the {_IMAGES[kind]} image and a container runtime that exposes "
                f"the devices, or set TEMPER_CPU=1 to train on the CPU"
            )


def compile_cache(
    folder: Path | None, environment: Mapping[str, str], devices: Path = Path("/dev")
) -> dict[str, str]:
    """Return the variable that keeps graphs compiled for Trainium with the run.

    A resumed job then finds them where its checkpoints are: on SageMaker, S3 restores both.
    TorchNeuron writes to /tmp/neff_cache otherwise, and does not read NEURON_COMPILE_CACHE_URL,
    which is torch-xla's: https://awsdocs-neuron.readthedocs-hosted.com/en/latest/torch/reference/
    env-vars.html

    Args:
        folder: Run folder; None if training chooses one.
        environment: Environment variables of this process; a variable that is set is left alone.
        devices: Folder of the device files.
    """
    name = "TORCH_NEURONX_NEFF_CACHE_DIR"
    if folder is None or name in environment or local_kind(environment, devices) != "neuron":
        return {}
    return {name: str(folder.absolute() / NEURON_GRAPHS)}


def network_settings(
    identity: NodeIdentity, environment: Mapping[str, str], system: Path = Path("/sys/class")
) -> dict[str, str]:
    """Return the variables that NCCL, gloo and libfabric need on this machine.

    Variables that are set already are left alone. FI_PROVIDER is set only if an EFA adapter
    exists: told to use a missing one, libfabric makes NCCL fall back with a warning, or fail.

    Args:
        identity: This node, with the interface between the nodes.
        environment: Environment variables of this process.
        system: Folder in which the kernel lists its devices.
    """
    settings: dict[str, str] = {}
    if identity.interface and (system / "net" / identity.interface).exists():
        settings |= {
            "NCCL_SOCKET_IFNAME": identity.interface,
            "GLOO_SOCKET_IFNAME": identity.interface,
        }
    adapters = system / "infiniband"
    if adapters.is_dir() and any(p.name.startswith(("efa", "rdmap")) for p in adapters.iterdir()):
        # AWS's table of settings: https://github.com/aws-samples/awsome-distributed-training/
        # blob/main/1.architectures/efa-cheatsheet.md: a forked process (a tokenizer, a data
        # loader) would copy the huge pages, of which there are few. The table leaves out
        # NCCL_PROTO, FI_EFA_USE_DEVICE_RDMA, NCCL_BUFFSIZE and the number of channels for the
        # versions in the images; a job sets others in `resources.environment`.
        settings |= {"FI_PROVIDER": "efa", "FI_EFA_USE_HUGE_PAGE": "0", "FI_EFA_FORK_SAFE": "1"}
    return {name: value for name, value in settings.items() if name not in environment}
