"""Nodes that train one run together, as described by torchrun's `PET_*` environment variables.

The entry point of a container (`containers/entrypoint`) sets them; a single machine has none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

STORAGE = "TEMPER_STORAGE"
"""`own` if every node has a run folder on its own disk, as on SageMaker; otherwise `shared`."""


@dataclass(frozen=True)
class NodeSet:
    """Nodes of a run, seen from one of them.

    Attributes:
        count: Number of nodes.
        rank: Rank of this node, from 0.
        own_storage: True if each node has its own run folder; otherwise all share one.
        address: Address of the first node.
        port: Port on the first node for the rendezvous.
    """

    count: int = 1
    rank: int = 0
    own_storage: bool = False
    address: str = ""
    port: int = 0

    @classmethod
    def here(cls) -> NodeSet:
        """Return the nodes that the environment variables describe."""
        count = os.environ.get("PET_NNODES", "1")
        if not count.isdigit() or int(count) < 2:
            return cls()
        return cls(
            count=int(count),
            rank=int(os.environ["PET_NODE_RANK"]),
            own_storage=os.environ.get(STORAGE) == "own",
            address=os.environ["PET_MASTER_ADDR"],
            port=int(os.environ["PET_MASTER_PORT"]),
        )

    @property
    def is_first(self) -> bool:
        """True on the node that decides and reports."""
        return self.rank == 0

    @property
    def keeps_folder(self) -> bool:
        """True if this node writes a run folder: its own, or the shared one on the first node."""
        return self.is_first or self.own_storage

    def rendezvous(self) -> tuple[str, ...]:
        """Return torchrun's options for the rendezvous with the other nodes."""
        if self.count == 1:
            return ("--standalone",)
        return (
            *("--nnodes", str(self.count), "--node-rank", str(self.rank)),
            *("--master-addr", self.address, "--master-port", str(self.port)),
        )


ALONE = NodeSet()
"""A single machine."""
