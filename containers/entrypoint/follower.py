"""Any node of several but the first, which it calls and listens to."""

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
from containers.entrypoint.rendezvous import TICK_S, LaunchInfo, NodeInfo, give_up_if
from containers.entrypoint.restart_policy import Decision, NodeExit


class Follower:
    """Any node but the first, which it calls.

    Args:
        place: Its own.
        hello: Its own.
        patience_s: How long the first node may take to be there.
        stopped: Whether this node was told to stop meanwhile.
    """

    def __init__(
        self,
        place: NodeIdentity,
        hello: NodeInfo,
        *,
        patience_s: float,
        stopped: Callable[[], bool],
    ):
        self._place, self._hello = place, hello
        self._patience_s, self._stopped = patience_s, stopped
        self._line: Connection | None = None
        self._inbox: deque[Message] = deque()
        self._grace_s: float | None = None
        self._verdict: Decision | None = None
        self._first = place.nodes[0]

    def assemble(self, folder: Path | None) -> LaunchInfo:
        """Call the first node and wait for its orders.

        Raises:
            StartError: It cannot be reached, or says why nothing is started.
        """
        if self._line is None:
            self._line = self._call()
            self._line.send("hello", **asdict(self._hello))
        self._grace_s, self._verdict = None, None
        # The first node gives up first, and says why.
        until = time.monotonic() + self._patience_s + 60
        while time.monotonic() < until:
            give_up_if(self._stopped())
            message = self._next(TICK_S)
            if message is None:
                continue
            if message["kind"] == "look":
                assert folder is not None, "several nodes are told where to train"
                self._line.send("seen", seen=(folder / message["name"]).exists())
            elif message["kind"] == "orders":
                return LaunchInfo(**_facts(message))
            elif message["kind"] == "verdict":
                raise StartError(str(message["message"]), int(message["code"]))
        raise StartError(f"{self._first} was reached, but gave no orders")

    def _call(self) -> Connection:
        until = time.monotonic() + self._patience_s
        where = (self._place.address, self._place.port)
        while True:
            give_up_if(self._stopped())
            try:
                return Connection(socket.create_connection(where, timeout=5))
            except OSError as error:
                if time.monotonic() > until:
                    raise StartError(
                        f"{self._first}, the first node, did not join within {self._patience_s:g} "
                        f"s: {where[0]}:{where[1]} cannot be reached "
                        f"({error.strerror or error}). See in its log why it did not start, and "
                        f"let the nodes of a job reach each other on every port"
                    ) from error
            time.sleep(TICK_S)

    def _next(self, seconds: float) -> Message | None:
        """Return the next message, waiting for it a while.

        Raises:
            StartError: The first node is gone.
        """
        assert self._line is not None
        if not self._inbox and select.select([self._line], [], [], seconds)[0]:
            try:
                self._inbox += self._line.receive()
            except ConnectionLostError as error:
                raise StartError(
                    f"{self._first}, the first node, was lost ({error}). The same job goes on from "
                    f"its last checkpoint"
                ) from error
        return self._inbox.popleft() if self._inbox else None

    def listen(self, seconds: float) -> float | None:
        """Hear the first node, which may say that training is to stop.

        Raises:
            StartError: It is gone.
        """
        message = self._next(seconds)
        if message is not None and message["kind"] == "halt":
            self._grace_s = float(message["grace_s"])
        elif message is not None and message["kind"] == "verdict":
            self._verdict = Decision(**_facts(message))
        return self._grace_s

    def settle(self, ended: NodeExit, progress: object) -> Decision:
        """Tell the first node, and wait for what it decides.

        Raises:
            StartError: It is gone.
        """
        assert self._line is not None
        with suppress(ConnectionLostError):  # found out, and explained, when it is listened to
            self._line.send("ended", **asdict(ended))
        while self._verdict is None:
            self.listen(TICK_S)
        return self._verdict

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()


def _facts(message: Message) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "kind"}
