"""The nodes that train one run together, as torchrun's own `PET_*` variables tell of them.

A container's entry point (`containers/entrypoint`) sets them; a machine by itself has none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

STORAGE = "TEMPER_STORAGE"
"""`own` where every node has a run folder on a disk of its own, as on SageMaker; else `shared`."""


@dataclass(frozen=True)
class NodeSet:
    """The place of this machine among those of the run.

    Attributes:
        count: How many there are.
        rank: Which this is, from 0.
        own_storage: Whether each has a run folder of its own; else all see one.
        address: Of the first node.
        port: On the first node, for the processes to find each other.
    """

    count: int = 1
    rank: int = 0
    own_storage: bool = False
    address: str = ""
    port: int = 0

    @classmethod
    def here(cls) -> NodeSet:
        """Return what the environment says."""
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
        """Whether this is the node that decides and reports."""
        return self.rank == 0

    @property
    def keeps_folder(self) -> bool:
        """Whether this node writes a run folder: its own, or as the first the one all share."""
        return self.is_first or self.own_storage

    def rendezvous(self) -> tuple[str, ...]:
        """Return torchrun's options for its processes to find those of the other nodes."""
        if self.count == 1:
            return ("--standalone",)
        return (
            *("--nnodes", str(self.count), "--node-rank", str(self.rank)),
            *("--master-addr", self.address, "--master-port", str(self.port)),
        )


ALONE = NodeSet()
"""One machine by itself."""
