"""Server process of the review page."""

from __future__ import annotations

from collections.abc import Sequence

import uvicorn

from feedback.review.app import ReviewState, build_app
from feedback.review.assignment import Assignment
from feedback.review.label_file import LabelFile
from feedback.review.options import ReviewOptions
from feedback.review.pairs import ReviewPair
from feedback.review.session import Sessions
from training.console import say
from training.listen_address import bind

_GRACE_S = 3


def serve(pairs: Sequence[ReviewPair], labels: LabelFile, options: ReviewOptions) -> int:
    """Serve the page until the process is told to stop, and return the exit code.

    Args:
        pairs: The pairs.
        labels: The file of labels.
        options: Address, overlap and key.

    Raises:
        ListenError: The address cannot be used.
    """
    listener = bind(options.host, options.port)
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
