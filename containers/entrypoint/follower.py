"""Follower: any node of a job but the first, connected to the leader."""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from containers.entrypoint.connection import Connection, ConnectionLostError, Message
from containers.entrypoint.errors import StartError
from containers.entrypoint.node_identity import NodeIdentity
from containers.entrypoint.rendezvous import TICK_S, LaunchInfo, NodeInfo, raise_if_stopped
from containers.entrypoint.restart_policy import Decision, NodeExit


class Follower:
    """Rendezvous of a node that is not the first.

    Args:
        identity: This node among those of the job.
        info: Description of this node, sent to the leader.
        join_timeout_s: Seconds to wait for the leader.
        stopped: Returns whether this node received a signal to stop.
    """

    def __init__(
        self,
        identity: NodeIdentity,
        info: NodeInfo,
        *,
        join_timeout_s: float,
        stopped: Callable[[], bool],
    ):
        self._identity, self._info = identity, info
        self._join_timeout_s, self._stopped = join_timeout_s, stopped
        self._connection: Connection | None = None
        self._inbox: deque[Message] = deque()
        self._grace_s: float | None = None
        self._decision: Decision | None = None
        self._leader = identity.nodes[0]

    def join(self, folder: Path | None) -> LaunchInfo:
        """Connect to the leader, and wait until it starts training.

        Raises:
            StartError: The leader cannot be reached, or refuses to start and says why.
        """
        if self._connection is None:
            self._connection = self._connect()
            self._connection.send("join", **asdict(self._info))
        self._grace_s, self._decision = None, None
        # Longer than the leader's own timeout, so that its message names the missing nodes.
        deadline = time.monotonic() + self._join_timeout_s + 60
        while time.monotonic() < deadline:
            raise_if_stopped(self._stopped())
            message = self._next_message(TICK_S)
            if message is None:
                continue
            if message["kind"] == "check_file":
                assert folder is not None, "jobs of several nodes have a run folder"
                self._connection.send("file", visible=(folder / message["name"]).exists())
            elif message["kind"] == "launch":
                return LaunchInfo(**_fields(message))
            elif message["kind"] == "decision":
                raise StartError(str(message["message"]), int(message["code"]))
        raise StartError(f"{self._leader} was reached, but did not start training")

    def _connect(self) -> Connection:
        deadline = time.monotonic() + self._join_timeout_s
        address = (self._identity.address, self._identity.port)
        while True:
            raise_if_stopped(self._stopped())
            try:
                return Connection(socket.create_connection(address, timeout=5))
            except OSError as error:
                if time.monotonic() > deadline:
                    raise StartError(
                        f"{self._leader}, the first node, did not join within "
                        f"{self._join_timeout_s:g} s: {address[0]}:{address[1]} cannot be reached "
                        f"({error.strerror or error}). See in its log why it did not start, and "
                        f"let the nodes of a job reach each other on every port"
                    ) from error
            time.sleep(TICK_S)

    def _next_message(self, seconds: float) -> Message | None:
        """Return the next message, or None if none arrives in time.

        Raises:
            StartError: The connection to the leader is lost.
        """
        assert self._connection is not None
        if not self._inbox and select.select([self._connection], [], [], seconds)[0]:
            try:
                self._inbox += self._connection.receive()
            except ConnectionLostError as error:
                raise StartError(
                    f"{self._leader}, the first node, was lost ({error}). Start the same job again "
                    "to resume from its last checkpoint"
                ) from error
        return self._inbox.popleft() if self._inbox else None

    def poll(self, seconds: float) -> float | None:
        """Process a message of the leader, which may order training to stop.

        Raises:
            StartError: The connection to the leader is lost.
        """
        message = self._next_message(seconds)
        if message is not None and message["kind"] == "stop":
            self._grace_s = float(message["grace_s"])
        elif message is not None and message["kind"] == "decision":
            self._decision = Decision(**_fields(message))
        return self._grace_s

    def agree(self, ended: NodeExit, progress: object) -> Decision:
        """Report the end of training to the leader, and wait for its decision.

        Raises:
            StartError: The connection to the leader is lost.
        """
        assert self._connection is not None
        with suppress(ConnectionLostError):  # `poll` notices it, and raises with an explanation
            self._connection.send("exit", **asdict(ended))
        while self._decision is None:
            self.poll(TICK_S)
        return self._decision

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()


def _fields(message: Message) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "kind"}
