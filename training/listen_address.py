"""Address on which a command serves: whether other machines reach it, and its socket."""

from __future__ import annotations

import ipaddress
import socket

from catalog.exit_codes import JOB_INVALID
from training.errors import TemperError


class ListenError(TemperError):
    """An address on which a server cannot listen."""

    exit_code = JOB_INVALID


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address, before anything is loaded for it.

    Raises:
        ListenError: The address cannot be used.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ListenError(
            f"{host}:{port} cannot be used: {error.strerror or error}. Name another with --port, "
            "or --port 0 for a free one"
        ) from None
    return listener
