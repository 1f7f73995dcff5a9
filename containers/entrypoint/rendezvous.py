"""Rendezvous of a job's nodes: they join, start training together, and agree on its end.

The first node is the leader and listens; every follower connects to it and keeps the connection
open. A node that never joins is named when the timeout expires, and one that fails silently when
its connection breaks. Every node learns how training ended on all, so every failure file has the
same message.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from catalog.exit_codes import STOPPED
from containers.entrypoint.errors import StartError
from containers.entrypoint.restart_policy import Decision, NodeExit, RestartPolicy

TICK_S = 0.2


@dataclass(frozen=True)
class NodeInfo:
    """Description that a node sends when it joins; the leader checks that all fit together.

    Attributes:
        node: Name of the node.
        rank: Rank of the node.
        devices: Number of its accelerators.
        job: Digest of the job that it is to train.
    """

    node: str
    rank: int
    devices: int
    job: str


@dataclass(frozen=True)
class LaunchInfo:
    """Values that every node needs to start training.

    Attributes:
        address: Address of the first node.
        port: Free port of the first node, for torchrun.
        own_storage: Every node has its own disk at the run folder, rather than a shared one.
    """

    address: str = ""
    port: int = 0
    own_storage: bool = False


class Rendezvous(Protocol):
    """Coordination with the other nodes of the job."""

    def join(self, folder: Path | None) -> LaunchInfo:
        """Wait until every node is ready to train in `folder`."""

    def poll(self, seconds: float) -> float | None:
        """Process messages of the other nodes for a while.

        Returns:
            None while training should continue; otherwise the seconds within which to stop it.
        """

    def agree(self, ended: NodeExit, progress: object) -> Decision:
        """Report how training ended on this node, and return what all nodes do next."""

    def close(self) -> None:
        """Close all connections."""


class SingleNode:
    """Rendezvous of a job with one node.

    Args:
        policy: Decides whether training is restarted.
    """

    def __init__(self, policy: RestartPolicy):
        self._policy = policy

    def join(self, folder: Path | None) -> LaunchInfo:
        """Return at once: there are no other nodes."""
        return LaunchInfo()

    def poll(self, seconds: float) -> float | None:
        """Sleep: there are no messages."""
        time.sleep(seconds)
        return None

    def agree(self, ended: NodeExit, progress: object) -> Decision:
        """Return the policy's decision."""
        return self._policy.decide([ended], [], progress)

    def close(self) -> None:
        """Do nothing: there are no connections."""


def raise_if_stopped(stopped: bool) -> None:
    """Raise if this node received a signal to stop while it waited for others.

    Raises:
        StartError: It did.
    """
    if stopped:
        raise StartError("stopped while waiting for the other nodes", STOPPED)
