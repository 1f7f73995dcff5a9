"""Server process of the review page."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import uvicorn

from feedback.review.app import ReviewState, build_app
from feedback.review.assignment import Assignment
from feedback.review.label_file import LabelFile
from feedback.review.options import ReviewOptions
from feedback.review.pairs import ReviewPair
from feedback.review.session import Sessions
from training.console import say
from training.errors import RunError

_GRACE_S = 3


def serve(pairs: Sequence[ReviewPair], labels: LabelFile, options: ReviewOptions) -> int:
    """Serve the page until the process is told to stop, and return the exit code.

    Args:
        pairs: The pairs.
        labels: The file of labels.
        options: Address, overlap and key.

    Raises:
        RunError: The address cannot be used.
    """
    listener = _bind(options.host, options.port)
    port = listener.getsockname()[1]
    state = ReviewState(
        {pair.id: pair for pair in pairs},
        Assignment(pairs, options.overlap),
        labels,
        Sessions(options.key),
    )
    hosts = ["127.0.0.1", "localhost", "[::1]", options.host]
    config = uvicorn.Config(
        build_app(state, hosts), log_level="warning", timeout_graceful_shutdown=_GRACE_S
    )
    say(f"{len(pairs)} pairs to review: http://{options.host}:{port}")
    say(f"labels: {labels.path}. Ctrl-C ends the review; the same command resumes it")
    say(f"afterwards: temper feedback {labels.path}")
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise RunError(
            f"{host}:{port} cannot be used: {error.strerror or error}. Name another with --port, "
            "or --port 0 for a free one"
        ) from None
    return listener
