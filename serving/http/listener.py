"""Socket of the server, bound before a model is loaded for it."""

from __future__ import annotations

import socket

from serving.command import ServeError


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens, before a model is loaded for it.

    Raises:
        ServeError: The address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ServeError(
            f"{host}:{port} cannot be used: {error.strerror or error}. Name another with --port, "
            f"or --port 0 for a free one"
        ) from None
    return listener
