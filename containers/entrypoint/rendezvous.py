"""The nodes of a job: they find each other, start together, and end together.

The first node listens; each of the others calls it and stays on the line. A node that never calls
is named when time is up; one that falls silent is named when its line breaks. What happened on one
node is known on all, so that every failure file tells the same story.
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
    """What a node says of itself; the first node checks that all fit together.

    Attributes:
        node: Its name.
        rank: Its place.
        devices: Its accelerators.
        job: A digest of what it was told to train.
    """

    node: str
    rank: int
    devices: int
    job: str


@dataclass(frozen=True)
class LaunchInfo:
    """What every node needs to know to start training.

    Attributes:
        address: Of the first node.
        port: Free on the first node, for torchrun.
        own_storage: Whether the nodes see different disks where the run folder is.
    """

    address: str = ""
    port: int = 0
    own_storage: bool = False


class Rendezvous(Protocol):
    """All nodes of the job, as seen from one."""

    def assemble(self, folder: Path | None) -> LaunchInfo:
        """Return when every node is ready to train in `folder`."""

    def listen(self, seconds: float) -> float | None:
        """Hear what the others say for a while.

        Returns:
            None while all is well; otherwise training is to stop here too, within so many seconds.
        """

    def settle(self, ended: NodeExit, progress: object) -> Decision:
        """Say how training ended here, and return what all do next."""

    def close(self) -> None:
        """Part."""


class SingleNode:
    """A single node.

    Args:
        judge: Decides what follows when training ends.
    """

    def __init__(self, judge: RestartPolicy):
        self._judge = judge

    def assemble(self, folder: Path | None) -> LaunchInfo:
        """Return at once: nobody else is awaited."""
        return LaunchInfo()

    def listen(self, seconds: float) -> float | None:
        """Wait: nobody says anything."""
        time.sleep(seconds)
        return None

    def settle(self, ended: NodeExit, progress: object) -> Decision:
        """Return what follows from how training ended here."""
        return self._judge.decide([ended], [], progress)

    def close(self) -> None:
        """Do nothing."""


def give_up_if(stopped: bool) -> None:
    """Raise when this node was told to stop while it waited."""
    if stopped:
        raise StartError("stopped while waiting for the other nodes", STOPPED)
