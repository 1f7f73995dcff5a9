"""A connection between two nodes: small JSON messages, one to a line, and nothing that blocks."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]
_LONGEST_BYTES = 1 << 20


class ConnectionLostError(Exception):
    """The other side is gone."""


class Connection:
    """One end of a connection.

    Args:
        connection: Open; closed with `close`.
    """

    def __init__(self, connection: socket.socket):
        self._socket = connection
        self._read = b""
        self.peer = "?"
        connection.settimeout(10)
        # A machine that loses its power says nothing: ask every few seconds whether it is there.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)

    def fileno(self) -> int:
        """Make this something `select` can wait for."""
        return self._socket.fileno()

    def send(self, kind: str, **facts: Any) -> None:
        """Send a message.

        Raises:
            LostError: Nobody is there to take it.
        """
        try:
            self._socket.sendall(json.dumps({"kind": kind, **facts}).encode() + b"\n")
        except OSError as error:
            raise ConnectionLostError(str(error)) from error

    def receive(self) -> Sequence[Message]:
        """Return the messages that have come; call when `select` says something has.

        Raises:
            LostError: The other side is gone, or does not speak as we do.
        """
        try:
            came = self._socket.recv(1 << 16)
        except OSError as error:
            raise ConnectionLostError(str(error)) from error
        if not came or len(self._read) + len(came) > _LONGEST_BYTES:
            raise ConnectionLostError("its connection was closed")
        *lines, self._read = (self._read + came).split(b"\n")
        try:
            found = [json.loads(line) for line in lines]
        except ValueError as error:
            raise ConnectionLostError("it speaks another language") from error
        if not all(isinstance(message, dict) and "kind" in message for message in found):
            raise ConnectionLostError("it speaks another language")
        return found

    def close(self) -> None:
        """End the connection."""
        self._socket.close()
