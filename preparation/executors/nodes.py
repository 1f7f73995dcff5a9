"""Nodes that share a preparation: which tasks each one runs, and how it waits for the others.

All nodes see one folder (a shared file system or S3) and divide the tasks of each pass by their
index. A pass begins on every node when the marks of all tasks of the pass before exist.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import RunError, TemperError

_PROCESSING_CONFIG = "config/resourceconfig.json"
"""Hosts of a SageMaker processing job, in `/opt/ml` or the folder that `SAGEMAKER_BASE_DIR` names
(https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html)."""
_POLL_S = 1.0


@dataclass(frozen=True)
class Node:
    """Place of this process among those that share a preparation.

    Attributes:
        index: Number of this node, from 0.
        count: Number of nodes.
        attempt: Name of the attempt, the same on all nodes: a Slurm job, a processing job. Files
            of a failure bear it, so that they do not end the attempt that resumes.
    """

    index: int = 0
    count: int = 1
    attempt: str = ""

    def tasks(self, total: int) -> range:
        """Return the tasks of this node."""
        return range(self.index, total, self.count)


ALONE = Node()


def this_node(
    environment: Mapping[str, str] = os.environ, configuration: Path | None = None
) -> Node:
    """Return the place of this process: of a Slurm step, a SageMaker processing job, or alone.

    Args:
        environment: Environment with Slurm's variables.
        configuration: SageMaker's description of the hosts, if it is not in its usual place.
    """
    if int(environment.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in environment:
        attempt = f"{environment['SLURM_JOB_ID']}.{environment.get('SLURM_RESTART_COUNT', '0')}"
        return Node(int(environment["SLURM_PROCID"]), int(environment["SLURM_NTASKS"]), attempt)
    base = Path(environment.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
    configuration = configuration or base / _PROCESSING_CONFIG
    if configuration.is_file():
        hosts = json.loads(configuration.read_text())
        names = sorted(hosts["hosts"])
        return Node(names.index(hosts["current_host"]), len(names), _job_name(configuration))
    return ALONE


def _job_name(configuration: Path) -> str:
    """Return the name of this processing job, which SageMaker writes next to its hosts."""
    request = configuration.with_name("processingjobconfig.json")
    if not request.is_file():
        return "processing"
    return str(json.loads(request.read_text()).get("ProcessingJobName", "processing"))


class Barrier:
    """Wait of one node for the others, by files in the shared folder.

    Args:
        node: This node.
        folder: datatrove's `DataFolder` of the preparation.
    """

    def __init__(self, node: Node, folder: Any):
        self._node = node
        self._folder = folder

    def wait(self, is_done: Callable[[], bool]) -> None:
        """Wait until something is done, or another node has failed.

        Args:
            is_done: Whether it is done.

        Raises:
            RunError: Another node failed; the message is that node's.
        """
        while self._node.count > 1 and not is_done():
            self._raise_failure()
            time.sleep(_POLL_S)

    def gather(self) -> None:
        """Say that this node has arrived; the first node waits until all have.

        Raises:
            RunError: Another node failed; the message is that node's.
        """
        if self._node.count == 1:
            return
        with self._folder.open(self._arrival(self._node.index), "wb") as stream:
            stream.write(b"")
        if self._node.index == 0:
            self.wait(lambda: all(map(self._has_arrived, range(self._node.count))))

    def fail(self, error: TemperError | OSError) -> None:
        """Tell the other nodes that this one failed."""
        if self._node.count > 1:
            with self._folder.open(self._mark(self._node.index), "wb") as stream:
                stream.write(str(error).encode())

    def _raise_failure(self) -> None:
        for index in range(self._node.count):
            if index != self._node.index and self._folder.exists(self._mark(index)):
                with self._folder.open(self._mark(index), "rb") as stream:
                    raise RunError(f"node {index} failed: {stream.read().decode()}")

    def _has_arrived(self, index: int) -> bool:
        return bool(self._folder.exists(self._arrival(index)))

    def _arrival(self, index: int) -> str:
        return f"arrived/{self._node.attempt}/{index}"

    def _mark(self, index: int) -> str:
        return f"failed/{self._node.attempt}/{index}"
