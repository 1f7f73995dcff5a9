"""Identity of this node and of its peers, as SageMaker, Slurm or Kubeflow describe them."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from containers.entrypoint.errors import StartError, read_number
from containers.entrypoint.hostlist import expand_hostlist
from containers.entrypoint.opt_ml import MlFolder

Service = Literal["sagemaker", "slurm", "kubeflow", "plain"]
PORT = 29400
"""Port on which the first node listens, unless the service names another."""

_NODE_ADDRESS = re.compile(r"\bNodeAddr=(\S+)")


@dataclass(frozen=True)
class NodeIdentity:
    """Identity of this node among the nodes of the job.

    Attributes:
        service: Service that started the container.
        nodes: Names of all nodes, in order of rank.
        rank: Rank of this node.
        address: Address of the first node.
        port: Port on which the first node listens for the others.
        interface: Network interface between the nodes; empty if unknown.
        instance: Instance type of the machine; empty if unknown.
        run: Name that is the same at every start of this job; empty if the service has none.
    """

    service: Service
    nodes: tuple[str, ...]
    rank: int = 0
    address: str = "127.0.0.1"
    port: int = PORT
    interface: str = ""
    instance: str = ""
    run: str = ""

    @property
    def name(self) -> str:
        """Name of this node."""
        return self.nodes[self.rank]

    @property
    def is_first(self) -> bool:
        """True for the leader, to which the other nodes connect."""
        return self.rank == 0


def read_node_identity(environment: Mapping[str, str], ml: MlFolder) -> NodeIdentity:
    """Return this node's identity.

    Args:
        environment: Environment variables of this process.
        ml: SageMaker's folder, which exists only in its containers.

    Raises:
        StartError: The service's description contradicts itself.
    """
    if ml.exists:
        return _sagemaker(ml, environment)
    if "SLURM_JOB_ID" in environment:
        return _slurm(environment)
    if any(name in environment for name in ("PET_NNODES", "WORLD_SIZE")):
        return _kubeflow(environment)
    return NodeIdentity("plain", (socket.gethostname(),))


def _sagemaker(ml: MlFolder, environment: Mapping[str, str]) -> NodeIdentity:
    config = ml.configuration("resourceconfig")
    if not config:
        return NodeIdentity("sagemaker", (socket.gethostname(),))
    # By length first, so that algo-10 comes after algo-2.
    nodes = sorted((str(host) for host in config.get("hosts", ())), key=lambda h: (len(h), h))
    current = str(config.get("current_host", ""))
    if current not in nodes:
        raise StartError(
            f"resourceconfig.json names this host {current or '(nothing)'}, which is not among the "
            f"hosts {', '.join(nodes) or '(none)'}"
        )
    return NodeIdentity(
        "sagemaker",
        tuple(nodes),
        nodes.index(current),
        address=nodes[0],
        port=int(read_number(environment, "MASTER_PORT", PORT)),
        interface=str(config.get("network_interface_name", "")),
        instance=str(config.get("current_instance_type", "")),
    )


def _slurm(environment: Mapping[str, str]) -> NodeIdentity:
    job = environment["SLURM_JOB_ID"]
    allocated = int(environment.get("SLURM_JOB_NUM_NODES", environment.get("SLURM_NNODES", "1")))
    if "SLURM_STEP_NODELIST" not in environment:
        if allocated > 1:
            raise StartError(
                f"job {job} has {allocated} nodes, and this is the batch script on one of them. "
                f"Start the container with srun, once on each node: srun --ntasks-per-node=1 …"
            )
        return NodeIdentity(
            "slurm", (environment.get("SLURMD_NODENAME", socket.gethostname()),), run=f"slurm-{job}"
        )
    if environment.get("SLURM_LOCALID", "0") != "0":
        raise StartError(
            f"two tasks of job {job} are on {environment.get('SLURMD_NODENAME', 'this node')}. One "
            f"starts the processes of all its devices: srun --ntasks-per-node=1 …"
        )
    nodes = tuple(expand_hostlist(environment["SLURM_STEP_NODELIST"]))
    rank = int(environment.get("SLURM_NODEID", "0"))
    if rank >= len(nodes):
        raise StartError(f"Slurm says this is node {rank} of {', '.join(nodes)}")
    return NodeIdentity(
        "slurm",
        nodes,
        rank,
        address=environment.get("MASTER_ADDR") or _slurm_address(nodes[0]),
        # Two jobs may share a node, so the port depends on the job.
        port=int(read_number(environment, "MASTER_PORT", 20_000 + int(job) % 10_000)),
        run=f"slurm-{job}",
    )


def _slurm_address(node: str) -> str:
    """Return the address of a node, whose name need not resolve."""
    if shutil.which("scontrol"):
        shown = subprocess.run(
            ["scontrol", "show", "node", node], capture_output=True, text=True, check=False
        )
        if match := _NODE_ADDRESS.search(shown.stdout):
            return match[1]
    return node


def _kubeflow(environment: Mapping[str, str]) -> NodeIdentity:
    """Return the identity from the training operator's variables: torchrun's, or torch's own.

    Raises:
        StartError: The number of nodes is not fixed, or the address of the first is missing.
    """
    count = environment.get("PET_NNODES") or environment["WORLD_SIZE"]
    rank = environment.get("PET_NODE_RANK") or environment.get("RANK", "0")
    if not count.isdigit() or not rank.isdigit():
        raise StartError(
            f"the number of nodes must be fixed, and this one's rank a number; the operator set "
            f"{count!r} and {rank!r}. Leave out elasticPolicy"
        )
    address = environment.get("PET_MASTER_ADDR") or environment.get("MASTER_ADDR", "")
    if int(count) > 1 and not address:
        raise StartError(f"there are {count} nodes, but MASTER_ADDR is not set")
    port_variable = "PET_MASTER_PORT" if environment.get("PET_MASTER_PORT") else "MASTER_PORT"
    return NodeIdentity(
        "kubeflow",
        tuple(_pod(address, number) for number in range(int(count))),
        int(rank),
        address=address or "127.0.0.1",
        port=int(read_number(environment, port_variable, PORT)),
    )


def _pod(first: str, rank: int) -> str:
    """Return the name of a pod, from the address of the first one."""
    name = first.partition(".")[0]
    if rank == 0:
        return name or "node-0"
    if name.endswith("-master-0"):
        return f"{name.removesuffix('-master-0')}-worker-{rank - 1}"
    if name.endswith("-0"):
        return f"{name.removesuffix('-0')}-{rank}"
    return f"node-{rank}"
