"""Connection between two nodes: JSON messages, one per line, received without blocking."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]
_MAX_MESSAGE_BYTES = 1 << 20


class ConnectionLostError(Exception):
    """The peer closed the connection, cannot be reached, or sends something else."""


class Connection:
    """One end of a connection between two nodes.

    Args:
        connection: Connected socket, which `close` closes.

    Attributes:
        peer: Name of the node at the other end, once it is known.
    """

    def __init__(self, connection: socket.socket):
        self._socket = connection
        self._buffer = b""
        self.peer = "?"
        connection.settimeout(10)
        # A machine that loses power closes nothing. Keepalive probes detect it within 35 s.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)

    def fileno(self) -> int:
        """Return the file descriptor, so that `select` accepts a connection."""
        return self._socket.fileno()

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message.

        Raises:
            ConnectionLostError: The peer does not receive it.
        """
        try:
            self._socket.sendall(json.dumps({"kind": kind, **fields}).encode() + b"\n")
        except OSError as error:
            raise ConnectionLostError(str(error)) from error

    def receive(self) -> Sequence[Message]:
        """Return the messages that have arrived; call it when `select` reports data.

        Raises:
            ConnectionLostError: The peer is gone, or does not use this protocol.
        """
        try:
            received = self._socket.recv(1 << 16)
        except OSError as error:
            raise ConnectionLostError(str(error)) from error
        if not received or len(self._buffer) + len(received) > _MAX_MESSAGE_BYTES:
            raise ConnectionLostError("its connection was closed")
        *lines, self._buffer = (self._buffer + received).split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError as error:
            raise ConnectionLostError("it uses another protocol") from error
        if not all(isinstance(message, dict) and "kind" in message for message in messages):
            raise ConnectionLostError("it uses another protocol")
        return messages

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
