"""Which node this is, among which others: told by SageMaker, Slurm, Kubeflow, or by nobody."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from containers.entrypoint.errors import StartError, read_number
from containers.entrypoint.hostlist import expand
from containers.entrypoint.opt_ml import MlFolder

Service = Literal["sagemaker", "slurm", "kubeflow", "plain"]
PORT = 29400
"""Where the first node listens for the others, unless the service names a port."""

_NODE_ADDRESS = re.compile(r"\bNodeAddr=(\S+)")


@dataclass(frozen=True)
class NodeIdentity:
    """The place of this container among those of the job.

    Attributes:
        service: Who started it.
        nodes: Names of all nodes, in the order of their ranks.
        rank: Which of them this is.
        address: Of the first node.
        port: On which the first node listens for the others.
        interface: The network interface between them; empty where nobody named one.
        instance: The machine's type; empty where nobody said.
        run: A name that is the same at every start of this job; empty where there is none.
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
        """What this node is called."""
        return self.nodes[self.rank]

    @property
    def is_first(self) -> bool:
        """Whether this is the node the others turn to."""
        return self.rank == 0


def read_node_identity(environment: Mapping[str, str], ml: MlFolder) -> NodeIdentity:
    """Return this node's place.

    Raises:
        StartError: What the service says contradicts itself.
    """
    if ml.is_there:
        return _sagemaker(ml, environment)
    if "SLURM_JOB_ID" in environment:
        return _slurm(environment)
    if any(name in environment for name in ("PET_NNODES", "WORLD_SIZE")):
        return _kubeflow(environment)
    return NodeIdentity("plain", (socket.gethostname(),))


def _sagemaker(ml: MlFolder, environment: Mapping[str, str]) -> NodeIdentity:
    told = ml.configuration("resourceconfig")
    if not told:
        return NodeIdentity("sagemaker", (socket.gethostname(),))
    # algo-10 comes after algo-2.
    nodes = sorted((str(host) for host in told.get("hosts", ())), key=lambda h: (len(h), h))
    mine = str(told.get("current_host", ""))
    if mine not in nodes:
        raise StartError(
            f"resourceconfig.json says this is {mine or 'nobody'}, which is not among the hosts "
            f"{', '.join(nodes) or '(none)'}"
        )
    return NodeIdentity(
        "sagemaker",
        tuple(nodes),
        nodes.index(mine),
        address=nodes[0],
        port=int(read_number(environment, "MASTER_PORT", PORT)),
        interface=str(told.get("network_interface_name", "")),
        instance=str(told.get("current_instance_type", "")),
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
    nodes = tuple(expand(environment["SLURM_STEP_NODELIST"]))
    rank = int(environment.get("SLURM_NODEID", "0"))
    if rank >= len(nodes):
        raise StartError(f"Slurm says this is node {rank} of {', '.join(nodes)}")
    return NodeIdentity(
        "slurm",
        nodes,
        rank,
        address=environment.get("MASTER_ADDR") or _slurm_address(nodes[0]),
        # Two jobs may share a node.
        port=int(read_number(environment, "MASTER_PORT", 20_000 + int(job) % 10_000)),
        run=f"slurm-{job}",
    )


def _slurm_address(node: str) -> str:
    """Return where a node is reached; its name need not be one that resolves."""
    if shutil.which("scontrol"):
        asked = subprocess.run(
            ["scontrol", "show", "node", node], capture_output=True, text=True, check=False
        )
        if found := _NODE_ADDRESS.search(asked.stdout):
            return found[1]
    return node


def _kubeflow(environment: Mapping[str, str]) -> NodeIdentity:
    """Read what the training operator sets: torchrun's variables, or torch's own."""
    count = environment.get("PET_NNODES") or environment["WORLD_SIZE"]
    rank = environment.get("PET_NODE_RANK") or environment.get("RANK", "0")
    if not count.isdigit() or not rank.isdigit():
        raise StartError(
            f"the number of nodes must be fixed, and this one's rank a number; the operator says "
            f"{count!r} and {rank!r}. Leave out elasticPolicy"
        )
    address = environment.get("PET_MASTER_ADDR") or environment.get("MASTER_ADDR", "")
    if int(count) > 1 and not address:
        raise StartError(f"there are {count} nodes, but MASTER_ADDR does not say which is first")
    named = "PET_MASTER_PORT" if environment.get("PET_MASTER_PORT") else "MASTER_PORT"
    return NodeIdentity(
        "kubeflow",
        tuple(_pod(address, number) for number in range(int(count))),
        int(rank),
        address=address or "127.0.0.1",
        port=int(read_number(environment, named, PORT)),
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
